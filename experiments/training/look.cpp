// What a run measures of itself between two steps: its heads, the gradients of its weights, and how far a step moves
// them.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include <fmt/format.h>

#include "experiments/training.hpp"
#include "framework/diagnostics.hpp"
#include "framework/probe.hpp"
#include "layers/attention_watch.hpp"

namespace surgeon {
namespace {

constexpr std::int64_t most_weights = 1 << 24;   // attention weights of one block

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

// ||dw/ds|| of each row of weights that are not softmax's.
std::vector<double> jacobian_norms(const Tensor& w, const std::string& weighting) {
  if (weighting == "sigmoid") return row_norms(w * (1.0 - w));
  return softmax_jacobian_norm(concat({w, 1.0 - sum(w, Over{{-1}, true})}, -1));   // off-by-one: and a key of score 0
}

// From weights and scores [B * heads, T, T], where no fused op gives them.
AttentionStats stats_of(const Tensor& scores, const Tensor& weights, const std::string& weighting, std::int64_t heads) {
  const Shape rows{scores.shape(0) / heads, heads, scores.shape(1)};
  return {.largest = reshape(max(scores, -1), rows), .logsumexp = reshape(logsumexp(scores, -1), rows),
          .entropy = tensor(entropy(weights), rows), .jacobian = tensor(jacobian_norms(weights, weighting), rows)};
}

// One head's numbers in x [B, heads, T], of the queries that see two keys or more: the others have nothing to choose.
std::vector<double> choosing(const Tensor& x, std::int64_t head, std::int64_t window) {
  const std::int64_t first = window == 1 ? x.shape(2) : 1;
  const Tensor own = slice(slice(x, 1, head, head + 1), 2, first, x.shape(2));
  const Tensor wide = reshape(own, {own.size()}).to(Dtype::float64);
  return {wide.values<double>().begin(), wide.values<double>().end()};
}

void measure_rows(std::vector<HeadLook>& heads, const AttentionStats& stats, std::int64_t window) {
  for (HeadLook& head : heads) {
    const auto own = [&](const Tensor& x) { return choosing(x, head.head, window); };
    const std::vector<double> norms = own(stats.jacobian);
    head.entropy = mean_of(own(stats.entropy));
    head.logsumexp = mean_of(own(stats.logsumexp));
    for (const double top : own(stats.largest)) head.largest_score = std::max(head.largest_score, top);
    head.jacobian = median(norms);
    head.dead_rows = share_below(norms, 1e-3);
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
  const bool in_one_op = knobs_.weighting == "softmax" && !knobs_.make_attention;
  const AttentionWatch watch;
  std::optional<Probe> seen;   // of scores and weights, which then are computed step by step
  if (!in_one_op) seen.emplace("blocks.*.attention.*");
  Probe Q("blocks.*.attention.Q"), K("blocks.*.attention.K"), V("blocks.*.attention.V");
  const std::int64_t weights = knobs_.heads * task_.tokens * task_.tokens;
  const Tensor loss =
      loss_of(first_of(batch_at(done_, 0), std::max<std::int64_t>(most_weights / weights, 1)), nullptr);
  std::vector<Tensor> asked = parameters_.tensors();
  const std::int64_t measured = knobs_.make_attention ? 0 : knobs_.layers;   // layers with heads to look at
  for (std::int64_t layer = 0; layer < measured; ++layer)
    for (const auto& [probe, name] : {std::pair{&Q, "Q"}, {&K, "K"}, {&V, "V"}})
      asked.push_back((*probe)[inside(layer, name)]);
  const std::vector<Tensor> gradients = grad(loss, asked);

  Look look{.step = done_};
  for (const auto& [name, parameter] : parameters_) {
    const Tensor sizes = abs(gradients[look.weights.size()]).to(Dtype::float64);
    look.weights.push_back({name, sizes_of(sizes.values<double>())});
  }
  const NoRecord pause;
  std::vector<Specimen> specimens;
  if (in_one_op) specimens = watch.specimens(model_);
  for (std::int64_t layer = 0; layer < measured; ++layer) {
    std::vector<HeadLook> heads(static_cast<std::size_t>(knobs_.heads));
    for (std::size_t h = 0; h < heads.size(); ++h) heads[h].layer = layer, heads[h].head = std::int64_t(h);
    measure_rows(heads, in_one_op ? statistics(specimens[std::size_t(layer)])
                                  : stats_of((*seen)[inside(layer, "scores")], (*seen)[inside(layer, "weights")],
                                             knobs_.weighting, knobs_.heads), knobs_.window);
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
                    {"entropy", h.entropy}, {"largest_score", h.largest_score}, {"logsumexp", h.logsumexp},
                    {"jacobian_median", h.jacobian}, {"dead_rows", h.dead_rows},
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
