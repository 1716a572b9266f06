#include "layers/doctor/signs.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "framework/diagnostics.hpp"
#include "framework/errors.hpp"

namespace surgeon::detail {

namespace {

using Findings = std::vector<Finding>;
using Kind = Finding::Kind;

// Signs by which numbers drawn at random would be taken for ill less often than this are told.
constexpr double by_chance = 1e-9;

std::string head_name(std::int64_t h) { return "head " + std::to_string(h); }

void add(Findings& all, Kind kind, const std::string& name, const std::string& sentence, const std::string& where,
         double certainty, const std::string& evidence, const std::string& cure) {
  all.push_back({kind, name, sentence, where, 0, 0, 0, certainty, evidence, cure});
}

double largest_of(const Tensor& x) { return x.size() == 0 ? 0 : max(abs(x)).item(); }

// ---- Heads ---------------------------------------------------------------------------------------------------------
std::size_t different(const Tensor& x) {
  const auto numbers = x.values<double>();
  return std::set<double>(numbers.begin(), numbers.end()).size();
}

// Two heads, drawn apart, would agree to within 4u in each of n numbers with a chance of about (8u)^n.
void doubles(Findings& all, const Specimen& s, double u) {
  const auto group = s.heads() / s.kv_heads();
  const auto same = [&](const Tensor& x, std::int64_t i, std::int64_t j) {
    return largest_of(x[0][i] - x[0][j]) <= 4 * u * largest_of(x[0][i]);
  };
  for (std::int64_t a = 0; a < s.heads(); ++a)
    for (std::int64_t b = a + 1; b < s.heads(); ++b) {
      const std::int64_t ka = a / group, kb = b / group;
      if (largest_of(s.Q[0][a]) == 0 || largest_of(s.K[0][ka]) == 0) continue;   // dead, not double
      if (!same(s.Q, a, b) || !same(s.K, ka, kb)) continue;
      const std::size_t numbers = different(s.Q[0][a]) + (ka == kb ? 0 : different(s.K[0][ka]));
      if (double(numbers) * std::log(8 * u) > std::log(by_chance)) continue;
      return add(all, Kind::diagnosis, "duplicate heads",
                 "two heads have the same queries and keys, hence the same weights",
                 head_name(a) + " and " + head_name(b), 0.95, "their Q and K are equal within rounding",
                 "give each head its own slice of W_q and W_k, or its own start");
    }
}

// A head of zeros. It is dead when others are not, or when no gradient will move it: zeros alone may be a start.
// Numbers of which half are 0, as after relu, are all 0 with a chance of 2^-n.
void dead(Findings& all, const Specimen& s) {
  for (const auto& [name, x, dx] : {std::tuple{"Q", &s.Q, &s.dQ}, {"K", &s.K, &s.dK}, {"V", &s.V, &s.dV}})
    for (std::int64_t h = 0; h < x->shape(1); ++h) {
      if (largest_of((*x)[0][h]) != 0 || std::exp2(-double((*x)[0][h].size())) > by_chance) continue;
      const bool moves = dx->defined() && largest_of((*dx)[0][h]) != 0;
      const bool judged = !moves && (largest_of(*x) != 0 || (dx->defined() && largest_of(s.dO) != 0));
      return add(all, judged ? Kind::diagnosis : Kind::observation, "dead head",
                 std::string(name) + " of a head is 0 throughout", head_name(h), 0.99,
                 "every number of " + std::string(name) + " is 0" +
                     (moves           ? ", but its gradient is not"
                      : dx->defined() ? ", and so is its gradient"
                                      : ""),
                 "check the head's weights and what feeds it");
    }
}

// The part of x's squares that is not its mean over tokens.
double own_part(const Tensor& x) {
  const Tensor centred = x - mean(x, Over{{0}, true});
  const double all = sum(x * x).item();
  return all > 0 ? sum(centred * centred).item() / all : 1;
}

// Nearly, but not quite: tokens that are equal to the last digits were equal from the start. Each number drawn apart is
// that near to its mean with a chance of 1 in 100.
void collapse(Findings& all, const Specimen& s, double u) {
  const double numbers = double((s.Tk() - 1) * (s.K.shape(3) + s.V.shape(3)));
  if (numbers * std::log(0.01) > std::log(by_chance)) return;
  for (std::int64_t h = 0; h < s.kv_heads(); ++h) {
    const double k = own_part(s.K[0][h]), v = own_part(s.V[0][h]), most = std::max(k, v);
    if (most > 1e-4) continue;
    const bool equal = most <= 64 * double(s.Tk()) * u * u;
    return add(all, equal ? Kind::observation : Kind::diagnosis, equal ? "equal tokens" : "rank collapse",
               equal ? "all tokens have the same key and value" : "all tokens have nearly the same key and value",
               head_name(h), 0.9,
               sentence("tokens differ in ", 100 * k, " % of the keys' squares and ", 100 * v, " % of the values'"),
               equal ? "nothing, if the tokens of this sequence are the same"
                     : "keep the skip connections; check for a layer that averages all tokens");
  }
}

// ---- Rows ----------------------------------------------------------------------------------------------------------
// Rows whose two largest weights are so far apart that the format rounds the winner's 1 - p away.
struct Saturated {
  std::int64_t choosing = 0, sharp = 0, stuck = 0;   // stuck: the loss would fall with another key than the winner
};

Saturated saturated_in(const Head& h, double u) {
  Saturated n;
  std::map<std::int64_t, std::int64_t> winners;   // of rows that are stuck
  const std::int64_t Tk = h.s.K.shape(0);
  const Tensor map = h.s.mask.empty() ? ones_like(h.P) : h.s.mask.to(Dtype::float64);
  const Tensor dP = h.s.dO.defined() ? times_transposed(h.s.dO, h.s.V) : Tensor();
  const auto P = h.P.values<double>(), sees = map.values<double>();
  for (std::int64_t i = 0; i < h.P.shape(0); ++i) {
    std::int64_t seen = 0, first = 0;
    double second = 0;
    for (std::int64_t j = 0; j < Tk; ++j) {
      const double p = P[std::size_t(i * Tk + j)], top = P[std::size_t(i * Tk + first)];
      seen += sees[std::size_t(i * Tk + j)] != 0;
      if (j == 0) continue;
      if (p > top) second = top, first = j;
      else second = std::max(second, p);
    }
    if (seen < 2) continue;
    const double top = P[std::size_t(i * Tk + first)];
    ++n.choosing;
    n.sharp += second < u * top;
    if (second >= std::min(u, 0x1p-24) * top || dP.empty()) continue;
    const auto wish = dP.values<double>();
    double least = wish[std::size_t(i * Tk + first)];
    const double now = least;
    for (std::int64_t j = 0; j < Tk; ++j)
      if (sees[std::size_t(i * Tk + j)] != 0) least = std::min(least, wish[std::size_t(i * Tk + j)]);
    if (least < now) ++n.stuck, ++winners[first];
  }
  for (const auto& [key, rows] : winners)
    if (2 * rows > n.stuck) {   // a sink, on which the head rests
      n.stuck = 0;
      break;
    }
  return n;
}

// A row that is lost to float32 cannot move. That harms when the loss would fall if it did: when dO prefers another key
// to the winner. Of a sharp head that is right, most rows have the key that they ought to have; and a head that rests
// on one key need not move.
void saturation(Findings& all, const std::vector<Head>& heads) {
  Saturated n;
  const double u = heads[0].format.u;
  for (const Head& h : heads) {
    const Saturated here = saturated_in(h, u);
    n.choosing += here.choosing, n.sharp += here.sharp, n.stuck += here.stuck;
  }
  if (n.choosing == 0 || 2 * n.sharp < n.choosing) return;
  const bool harms = 2 * n.stuck >= n.choosing && n.choosing >= 32;
  std::string evidence = sentence(n.sharp, " of ", n.choosing, " rows have a second weight below ", u, " of the first");
  if (n.stuck > 0)
    evidence += sentence("; ", n.stuck, " are lost to float32 as well while dO prefers another key than the winner");
  add(all, harms ? Kind::diagnosis : Kind::observation, "saturation",
      harms ? "most rows are saturated and cannot move to the key that the loss asks for"
            : "most rows are saturated: the winner's own gradient rounds to 0",
      "", 0.95, evidence, "divide the scores by sqrt(d_k), normalise queries and keys (QK-norm), or cap the scores");
}

// One key that takes most of the attention, where the mask alone would not give it that.
void sink(Findings& all, const Specimen& s, const Tensor& weights) {
  if (s.Tk() < 16 || s.Tq() < 16) return;
  const Tensor visible = visible_in(s);
  const Tensor map = broadcast_to(visible.empty() ? ones({1, 1}, Dtype::float64) : visible.to(Dtype::float64),
                                  {1, s.heads(), s.Tq(), s.Tk()});
  const Tensor equal = mean(map / maximum(row_sums(map), ones({1}, Dtype::float64)), 2);   // [1, heads, Tk]
  for (std::int64_t h = 0; h < s.heads(); ++h) {
    const Tensor share = mean(weights[0][h], 0);   // [Tk]
    const std::int64_t key = std::int64_t(argmax(share, 0).item());
    const double most = share.at({key}), expected = equal.at({0, h, key});
    if (most < 0.5 || most < 3 * expected) continue;
    return add(all, Kind::observation, "attention sink", "one key takes most of the attention", head_name(h), 0.8,
               sentence("key ", key, " has ", 100 * most, " % of all weight; equal weights under the same mask give ",
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
  add(all, Kind::diagnosis, "dropout on", "dropout is on: weights are dropped and the others enlarged", "", 0.99,
      sentence(zeros, " of ", visible, " weights are 0, the others are ", high, " times those of softmax: p = ", p),
      "call eval() before measuring; keep dropout for training");
}

}   // namespace

Findings signs_of(const Specimen& s, const std::vector<Head>& heads, const Tensor& weights) {
  Findings all;
  const double u = heads[0].format.u;
  doubles(all, s, u);
  dead(all, s);
  collapse(all, s, u);
  saturation(all, heads);
  sink(all, s, weights);
  dropped(all, s, weights, u);
  return all;
}

}   // namespace surgeon::detail
