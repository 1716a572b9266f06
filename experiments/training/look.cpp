// What a run measures of itself between two steps: its heads, the gradients of its weights, and how far a step moves
// them.
#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "experiments/training.hpp"
#include "framework/diagnostics.hpp"
#include "framework/probe.hpp"

namespace surgeon {
namespace {

constexpr std::int64_t most_weights = 1 << 24;   // attention weights of one block
constexpr double infinity = std::numeric_limits<double>::infinity();

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / double(values.size());
}

Sizes sizes_of(std::span<const double> values) {
  const double squares = std::inner_product(values.begin(), values.end(), values.begin(), 0.0);
  return {median(values), std::sqrt(squares / double(values.size()))};
}

// The sizes of one head's vectors in x [B, T, heads * d].
Sizes head_sizes(const Tensor& x, std::int64_t heads, std::int64_t head) {
  const std::vector<double> all = row_norms(reshape(x, {x.shape(0) * x.shape(1) * heads, x.shape(2) / heads}));
  std::vector<double> own;
  for (std::size_t i = std::size_t(head); i < all.size(); i += std::size_t(heads)) own.push_back(all[i]);
  return sizes_of(own);
}

// ||dw/ds|| of each row of weights.
std::vector<double> jacobian_norms(const Tensor& w, const std::string& weighting) {
  if (weighting == "sigmoid") return row_norms(w * (1.0 - w));
  if (weighting == "softmax") return softmax_jacobian_norm(w);
  return softmax_jacobian_norm(concat({w, 1.0 - sum(w, Over{{-1}, true})}, -1));   // off-by-one: and a key of score 0
}

// Sets entropy, largest score and dead rows of a layer's heads from scores and weights [B * heads, T, T]. Queries that
// see a single key have nothing to choose from and do not count.
void measure_attention(std::vector<HeadLook>& heads, const Tensor& scores, const Tensor& weights,
                       const std::string& weighting) {
  const Tensor keys = sum((scores > -infinity).to(Dtype::int64), -1), tops = max(scores, -1).to(Dtype::float64);
  const std::vector<double> entropies = entropy(weights), norms = jacobian_norms(weights, weighting);
  std::vector<std::vector<double>> own_entropies(heads.size()), own_norms(heads.size());
  for (HeadLook& head : heads) head.largest_score = -infinity;
  for (std::size_t row = 0; row < entropies.size(); ++row) {
    if (keys.values<std::int64_t>()[row] < 2) continue;
    const std::size_t head = row / std::size_t(scores.shape(-2)) % heads.size();
    own_entropies[head].push_back(entropies[row]);
    own_norms[head].push_back(norms[row]);
    heads[head].largest_score = std::max(heads[head].largest_score, tops.values<double>()[row]);
  }
  for (std::size_t head = 0; head < heads.size(); ++head) {
    heads[head].entropy = mean_of(own_entropies[head]);
    heads[head].dead_rows = share_below(own_norms[head], 1e-3);
  }
}

// Sets the sizes of a layer's gradients from dQ, dK and dV, [B, T, d_model] and [B, T, kv_heads * d_k].
void measure_gradients(std::vector<HeadLook>& heads, const Tensor* dQ_dK_dV, std::int64_t kv_heads) {
  const std::int64_t all = std::ssize(heads);
  for (HeadLook& head : heads) {
    const std::int64_t kv_head = head.head * kv_heads / all;
    head.grad_q = head_sizes(dQ_dK_dV[0], all, head.head);
    head.grad_k = head_sizes(dQ_dK_dV[1], kv_heads, kv_head);
    head.grad_v = head_sizes(dQ_dK_dV[2], kv_heads, kv_head);
  }
}

std::string inside(std::int64_t layer, const char* name) {
  return fmt::format("blocks.{}.attention.{}", layer, name);
}

Batch first_of(const Batch& batch, std::int64_t sequences) {
  return {slice(batch.tokens, 0, 0, sequences), slice(batch.targets, 0, 0, sequences)};
}

}  // namespace

Look Trainer::look() {
  before_.clear();
  for (const Tensor& parameter : parameters_.tensors()) before_.push_back(parameter.detach());
  Probe seen("blocks.*.attention.*");
  const std::int64_t weights = knobs_.heads * task_.tokens * task_.tokens;
  const Tensor loss =
      loss_of(first_of(batch_at(done_, 0), std::max<std::int64_t>(most_weights / weights, 1)), nullptr);
  std::vector<Tensor> asked = parameters_.tensors();
  const std::int64_t measured = knobs_.make_attention ? 0 : knobs_.layers;   // layers with heads to look at
  for (std::int64_t layer = 0; layer < measured; ++layer)
    for (const char* name : {"Q", "K", "V"}) asked.push_back(seen[inside(layer, name)]);
  const std::vector<Tensor> gradients = grad(loss, asked);

  Look look{.step = done_};
  for (const auto& [name, parameter] : parameters_) {
    const Tensor sizes = abs(gradients[look.weights.size()]).to(Dtype::float64);
    look.weights.push_back({name, sizes_of(sizes.values<double>())});
  }
  for (std::int64_t layer = 0; layer < measured; ++layer) {
    std::vector<HeadLook> heads(static_cast<std::size_t>(knobs_.heads));
    for (std::size_t h = 0; h < heads.size(); ++h) heads[h].layer = layer, heads[h].head = std::int64_t(h);
    measure_attention(heads, seen[inside(layer, "scores")], seen[inside(layer, "weights")], knobs_.weighting);
    measure_gradients(heads, &gradients[look.weights.size() + std::size_t(3 * layer)],
                      knobs_.kv_heads > 0 ? knobs_.kv_heads : knobs_.heads);
    look.heads.insert(look.heads.end(), heads.begin(), heads.end());
  }
  return look;
}

std::vector<WeightUpdate> Trainer::updates() const {
  const NoRecord pause;
  std::vector<WeightUpdate> updates;
  for (const auto& [name, parameter] : parameters_) {
    const Tensor& before = before_[updates.size()];
    updates.push_back({name, norm(parameter - before) / norm(before)});
  }
  return updates;
}

// ---- Rows ----------------------------------------------------------------------------------------------------------
std::vector<Row> rows_of(const Look& look) {
  std::vector<Row> rows;
  for (const HeadLook& h : look.heads)
    rows.push_back({{"kind", "head"}, {"step", look.step}, {"layer", h.layer}, {"head", h.head},
                    {"entropy", h.entropy}, {"largest_score", h.largest_score}, {"dead_rows", h.dead_rows},
                    {"grad_q_median", h.grad_q.median}, {"grad_q_rms", h.grad_q.rms},
                    {"grad_k_median", h.grad_k.median}, {"grad_k_rms", h.grad_k.rms},
                    {"grad_v_median", h.grad_v.median}, {"grad_v_rms", h.grad_v.rms}});
  for (const WeightLook& w : look.weights)
    rows.push_back({{"kind", "gradient"}, {"step", look.step}, {"parameter", w.name},
                    {"grad_median", w.gradient.median}, {"grad_rms", w.gradient.rms}});
  return rows;
}

std::vector<Row> rows_of(const std::vector<WeightUpdate>& updates, std::int64_t step) {
  std::vector<Row> rows;
  for (const WeightUpdate& u : updates)
    rows.push_back({{"kind", "update"}, {"step", step}, {"parameter", u.name}, {"update_ratio", u.ratio}});
  return rows;
}

}  // namespace surgeon
