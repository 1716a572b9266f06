#include "layers/doctor/signs.hpp"

#include <algorithm>
#include <cmath>

#include "framework/diagnostics.hpp"
#include "framework/errors.hpp"

namespace surgeon::detail {

namespace {

using Findings = std::vector<Finding>;

std::string head_name(std::int64_t h) { return "head " + std::to_string(h); }

void add(Findings& all, const std::string& name, const std::string& sentence, const std::string& where,
         double certainty, const std::string& evidence, const std::string& cure) {
  all.push_back({Finding::Kind::diagnosis, name, sentence, where, 0, 0, 0, certainty, evidence, cure});
}

double largest_of(const Tensor& x) { return x.size() == 0 ? 0 : max(abs(x)).item(); }

// A gradient that is 0 throughout while the output's is not, although some query has a choice between keys.
void unconnected(Findings& all, const Specimen& s, const Tensor& weights, double u) {
  if (s.dO.empty() || largest_of(s.dO) == 0) return;
  const bool chooses = s.Tk() > 1 && max(slice(topk(weights, 2, -1).values, -1, 1)).item() > 64 * u;
  const bool attends = largest_of(weights) > 0;
  for (const auto& [name, x] : {std::pair{"dQ", &s.dQ}, {"dK", &s.dK}, {"dV", &s.dV}}) {
    if (x->empty() || largest_of(*x) != 0 || !(x == &s.dV ? attends : chooses)) continue;
    add(all, std::string(name) + " is 0", std::string("no gradient reaches ") + (name + 1) + ": it is not connected",
        "", 0.99, std::string(name) + " is exactly 0 throughout, dO is not",
        "remove detach(), no_grad or a copy through "
        "numbers between " +
            std::string(name + 1) + " and the loss");
  }
}

void doubles(Findings& all, const Specimen& s, double u) {
  for (std::int64_t a = 0; a < s.heads() && s.Tq() > 1; ++a)
    for (std::int64_t b = a + 1; b < s.heads(); ++b) {
      const auto kv = [&](std::int64_t h) { return h / (s.heads() / s.kv_heads()); };
      const auto same = [&](const Tensor& x, std::int64_t i, std::int64_t j) {
        return largest_of(x[0][i] - x[0][j]) <= 4 * u * largest_of(x[0][i]);
      };
      if (!same(s.Q, a, b) || !same(s.K, kv(a), kv(b))) continue;
      add(all, "duplicate heads", "two heads have the same queries and keys, hence the same weights",
          head_name(a) + " and " + head_name(b), 0.95, "their Q and K are equal within rounding",
          "give each head its own slice of W_q and W_k, or its own start");
      return;
    }
}

void dead(Findings& all, const Specimen& s) {
  for (const auto& [name, x] : {std::pair{"Q", &s.Q}, {"K", &s.K}, {"V", &s.V}})
    for (std::int64_t h = 0; h < x->shape(1); ++h)
      if (largest_of((*x)[0][h]) == 0)
        return add(all, "dead head", std::string(name) + " of a head is 0 throughout", head_name(h), 0.99,
                   "every number of " + std::string(name) + " is 0", "check the head's weights and what feeds it");
}

// The part of x's squares that is not its mean over tokens.
double own_part(const Tensor& x) {
  const Tensor centred = x - mean(x, Over{{0}, true});
  const double all = sum(x * x).item();
  return all > 0 ? sum(centred * centred).item() / all : 1;
}

void collapse(Findings& all, const Specimen& s) {
  for (std::int64_t h = 0; h < s.kv_heads() && s.Tk() > 1; ++h) {
    const double k = own_part(s.K[0][h]), v = own_part(s.V[0][h]);
    if (std::max(k, v) > 1e-4 || std::max(k, v) == 0) continue;
    return add(all, "rank collapse", "all tokens have nearly the same key and value", head_name(h), 0.9,
               sentence("tokens differ in ", 100 * k, " % of the keys' squares and ", 100 * v, " % of the values'"),
               "keep the skip connections; check for a layer that averages all tokens");
  }
}

// Rows whose two largest weights are so far apart that the format rounds the winner's 1 - p away.
void saturation(Findings& all, const Specimen& s, const Tensor& weights, double u) {
  if (s.Tk() < 2) return;
  const Tensor visible = visible_in(s), map = visible.empty() ? ones_like(weights) : visible.to(Dtype::float64);
  const Tensor seen = sum(broadcast_to(map, weights.shape()), -1);   // [1, heads, Tq]: keys to choose from
  const Tensor top = topk(weights, 2, -1).values;   // [1, heads, Tq, 2]
  std::int64_t choosing = 0, lost = 0;
  for (std::int64_t h = 0; h < s.heads(); ++h)
    for (std::int64_t i = 0; i < s.Tq(); ++i)
      if (seen.at({0, h, i}) > 1) choosing += 1, lost += top.at({0, h, i, 1}) < u * top.at({0, h, i, 0});
  if (choosing == 0 || 2 * lost < choosing) return;
  add(all, "saturation", "most rows are saturated: the winner's own gradient rounds to 0", "", 0.95,
      sentence(lost, " of ", choosing, " rows have a second weight below ", u, " of the first"),
      "divide the scores by sqrt(d_k), normalise queries and keys (QK-norm), or cap the scores");
}

// One key that takes most of the attention, where the mask alone would not give it that.
void sink(Findings& all, const Specimen& s, const Tensor& weights) {
  if (s.Tk() < 16 || s.Tq() < 16) return;
  double harmonic = 0;
  for (std::int64_t i = 1; i <= s.Tq(); ++i) harmonic += 1 / double(i);
  const double expected = s.causal ? harmonic / double(s.Tq()) : 1 / double(s.Tk());
  for (std::int64_t h = 0; h < s.heads(); ++h) {
    const Tensor share = mean(weights[0][h], 0);   // [Tk]
    const double most = max(share).item();
    if (most < 0.5 || most < 3 * expected) continue;
    return add(all, "attention sink", "one key takes most of the attention", head_name(h), 0.8,
               sentence("key ", std::int64_t(argmax(share, 0).item()), " has ", 100 * most,
                        " % of all weight; equal weights "
                        "under the same mask give ",
                        100 * expected, " %"),
               "usual in trained causal models; a sink logit, off-by-one softmax or an output gate let heads rest");
  }
}

// Weights that are 0 or those of softmax times one factor 1 / (1 - p).
void dropped(Findings& all, const Specimen& s, const Tensor& expected, double u) {
  if (s.weights.empty()) return;
  std::int64_t zeros = 0, others = 0, visible = 0;
  double low = 1e300, high = 0;
  const auto given = s.weights.values<double>(), right = expected.values<double>();
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (right[i] <= 16 * u) continue;
    ++visible;
    if (given[i] == 0) ++zeros;
    else ++others, low = std::min(low, given[i] / right[i]), high = std::max(high, given[i] / right[i]);
  }
  const double p = 1 - 1 / high;
  if (visible < 16 || zeros == 0 || others == 0 || p < 0.01 || high - low > (1e-6 + 64 * u) * high) return;
  if (std::abs(double(zeros) / double(visible) - p) > 4 * std::sqrt(p * (1 - p) / double(visible))) return;
  add(all, "dropout on", "dropout is on: weights are dropped and the others enlarged", "", 0.99,
      sentence(zeros, " of ", visible, " weights are 0, the others are ", high, " times those of softmax: p = ", p),
      "call eval() before measuring; keep dropout for training");
}

}  // namespace

Findings signs_of(const Specimen& s, const Tensor& weights, double u) {
  Findings all;
  unconnected(all, s, weights, u);
  doubles(all, s, u);
  dead(all, s);
  collapse(all, s);
  saturation(all, s, weights, u);
  sink(all, s, weights);
  dropped(all, s, weights, u);
  return all;
}

}  // namespace surgeon::detail
