// The plain path of attention, with scores and weights as tensors, every score rule, and when a fused op does the same.
#include "layers/attention.hpp"

#include <cmath>
#include <limits>

#include "framework/errors.hpp"
#include "framework/probe.hpp"
#include "layers/attention/inputs.hpp"
#include "layers/attention/masked_products.hpp"
#include "layers/attention/statistics.hpp"

namespace surgeon {

namespace {

// x with zeros where no score reads it, so that a nan there has no derivative either. axis: the one of the others.
Tensor clear_unread(const Tensor& x, const Tensor& visible, int axis) {
  if (visible.empty()) return x;
  const Tensor table = visible.rank() < 2 ? reshape(visible, {1, visible.size()}) : visible;
  const Tensor readers = sum(table, Over{{axis}, true});
  return masked_fill(x, (axis == -2 ? transpose(readers, -1, -2) : readers) == 0.0, 0.0);
}

// What enters softmax: bias + cap(factor * products), -inf where nothing is visible.
Tensor scores_of(const Tensor& Q, const Tensor& K, const Tensor& visible, const AttentionOptions& options) {
  const Tensor& learned = options.scale.learned();
  const double factor = learned.defined() ? 1.0 : options.scale.factor(Q.shape(-1), K.shape(-2));
  const double minus_infinity = -std::numeric_limits<double>::infinity();
  const bool bare = learned.empty() && options.soft_cap == 0.0 && options.bias.empty();
  Tensor scores;   // [..., Tq, Tk]
  if (visible.empty()) {
    scores = matmul(Q, K, {.transpose_b = true});
    if (factor != 1.0) scores = scores * factor;
  } else {
    scores = detail::visible_scores(Q, K, visible, factor, bare ? minus_infinity : 0.0);
  }
  if (bare) return scores;
  if (learned.defined()) scores = scores * reshape(learned, {learned.size(), 1, 1});
  if (options.soft_cap > 0.0) scores = tanh(scores / options.soft_cap) * options.soft_cap;
  if (options.bias.defined()) scores = scores + options.bias;
  return visible.empty() ? scores : masked_fill(scores, !visible, minus_infinity);
}

Tensor weights_of(const Tensor& scores, const AttentionOptions& options) {
  const std::int64_t Tk = scores.shape(-1);
  if (options.weighting == Weighting::sigmoid)
    return sigmoid(scores + options.sigmoid_bias.value_or(-std::log(double(Tk))));
  if (options.weighting == Weighting::softmax) return softmax(scores, -1);
  Shape one_key = scores.shape();
  one_key.back() = 1;
  const Tensor with_nothing = concat({scores, zeros(one_key, scores.dtype())}, -1);   // the key "nothing", of score 0
  return slice(softmax(with_nothing, -1), -1, 0, Tk);
}

// Q, K, V [B, T, d] or [B, heads, T, d]. For a caller whose heads lie side by side, scores and weights lose the axis of
// heads on their way, so that those returned lie on the path to the output.
AttentionResult in_plain_ops(const Tensor& Q, const Tensor& K, const Tensor& V, const Tensor& visible, Heads lie,
                             const AttentionOptions& options) {
  Tensor scores = scores_of(Q, K, visible, options);
  const Shape shape = scores.shape();
  if (lie == Heads::side_by_side) scores = reshape(scores, {shape[0] * shape[1], shape[2], shape[3]});
  scores = probe("scores", scores);
  const Tensor weights = probe("weights", weights_of(scores, options));
  Tensor applied = options.dropout > 0.0 && options.rng ? dropout(weights, options.dropout, *options.rng) : weights;
  if (lie == Heads::side_by_side) applied = reshape(applied, shape);
  const Tensor output =
      visible.empty() ? matmul(applied, V) : detail::visible_sum(applied, V, visible, detail::SumOver::keys);
  if (!options.return_weights) return {output, {}, {}};
  return {output, weights, scores};
}

// Whether there is nothing between scores and weights but softmax, and nobody who wants to see them.
bool fuses(const AttentionOptions& options) {
  const bool bare = options.scale.learned().empty() && options.bias.empty() && options.soft_cap == 0.0;
  const bool drops = options.dropout > 0.0 && options.rng;
  return bare && !drops && options.weighting == Weighting::softmax && !options.return_weights && !probed("scores") &&
         !probed("weights");
}

// [B, T, heads * d] -> [B, heads, T, d] and back
Tensor split_heads(const Tensor& x, std::int64_t heads) {
  return permute(reshape(x, {x.shape(0), x.shape(1), heads, x.shape(2) / heads}), {0, 2, 1, 3});
}
Tensor join_heads(const Tensor& x) {
  return reshape(permute(x, {0, 2, 1, 3}), {x.shape(0), x.shape(2), x.shape(1) * x.shape(3)});
}

// The same as in_one_op, for its higher derivatives. in: Q, K, V and perhaps a mask.
Tensor reference_of(std::span<const Tensor> in, Heads lie, std::int64_t heads, AttentionOptions options) {
  if (in.size() > 3) options.mask = in[3];
  const auto apart = [&](const Tensor& x) { return lie == Heads::side_by_side ? split_heads(x, heads) : x; };
  const Tensor Q = apart(in[0]), K = apart(in[1]), V = apart(in[2]);
  Shape scores = Q.shape();
  scores.back() = K.shape(-2);
  const Tensor visible = detail::visible_keys(options, scores, detail::Causal::included);
  const Tensor y = in_plain_ops(Q, K, V, visible, Heads::apart, options).output;
  return lie == Heads::side_by_side ? join_heads(y) : y;
}

Tensor in_one_op(const Tensor& Q, const Tensor& K, const Tensor& V, const detail::AttentionSizes& sizes, Heads lie,
                 const Shape& scores, const AttentionOptions& options) {
  const double factor = options.scale.factor(sizes.d_k, sizes.Tk);
  const Tensor mask = detail::visible_keys(options, scores, detail::Causal::left_out);
  const AttentionOptions same{.scale = factor, .causal = options.causal};   // but for the mask: a rule holds no tensors
  const auto reference = [same, lie, heads = sizes.heads](std::span<const Tensor> in) {
    return reference_of(in, lie, heads, same);
  };
  return detail::fused_attention(sizes, Q, K, V, {.mask = mask, .causal = options.causal, .scale = factor}, reference);
}

// [B, kv_heads, T, d] -> [B, heads, T, d]
Tensor shared_heads(const Tensor& x, std::int64_t heads) {
  const Shape& s = x.shape();
  if (s[1] == heads) return x;
  return reshape(broadcast_to(reshape(x, {s[0], s[1], 1, s[2], s[3]}), {s[0], s[1], heads / s[1], s[2], s[3]}),
                 {s[0], heads, s[2], s[3]});
}

// From the scores where there are some, so that derivatives by them can be asked for.
AttentionStats stats_of(const Tensor& Q, const Tensor& K, const AttentionResult& result, Heads lie, const Shape& scores,
                        const AttentionOptions& options) {
  if (result.scores.defined()) return detail::statistics_of(result.scores);
  AttentionStats stats = detail::statistics_by_rows(Q, K, scores, options, scores_of);
  if (lie == Heads::side_by_side)
    for (Tensor* x : {&stats.largest, &stats.logsumexp, &stats.entropy, &stats.jacobian})
      *x = reshape(*x, {scores[0] * scores[1], scores[2]});
  return stats;
}

// lie: how the caller's heads lay; here each has its own axis. scores: their shape.
AttentionResult attend(Tensor Q, Tensor K, Tensor V, detail::AttentionSizes sizes, Heads lie, const Shape& scores,
                       const AttentionOptions& options) {
  if (sizes.kv_heads != sizes.heads) {
    K = shared_heads(K, sizes.heads);
    V = shared_heads(V, sizes.heads);
    sizes.kv_heads = sizes.heads;
  }
  const bool fused = fuses(options), normalises = options.qk_norm != QkNorm::none;
  const Tensor visible =
      fused && !normalises ? Tensor() : detail::visible_keys(options, scores, detail::Causal::included);
  if (normalises) {
    Q = detail::normalised(clear_unread(Q, visible, -1), options.qk_norm);
    K = detail::normalised(clear_unread(K, visible, -2), options.qk_norm);
  }
  AttentionResult result = fused ? AttentionResult{in_one_op(Q, K, V, sizes, Heads::apart, scores, options), {}, {}}
                                 : in_plain_ops(Q, K, V, visible, lie, options);
  if (options.return_stats) result.stats = stats_of(Q, K, result, lie, scores, options);
  return result;
}

}  // namespace

double Scale::factor(std::int64_t d_k, std::int64_t n) const {
  switch (kind_) {
    case Kind::none: return 1.0;
    case Kind::inverse_sqrt: return 1.0 / std::sqrt(double(d_k));
    case Kind::number: return number_;
    case Kind::inverse: return 1.0 / double(d_k);
    case Kind::log_n: return std::log(double(n)) / std::sqrt(double(d_k));
    default: throw std::invalid_argument("Scale: a learned scale is a tensor, not one number");
  }
}

AttentionResult attention(const Tensor& Q, const Tensor& K, const Tensor& V, const AttentionOptions& options) {
  const detail::AttentionSizes sizes = detail::attention_sizes("attention", Q, K, V);
  require(sizes.d_k >= 1, "attention: Q ", Q.shape(), ", K ", K.shape(), ", V ", V.shape(), ": d_k is 0");
  Shape scores = Q.shape();
  scores.back() = sizes.Tk;
  detail::check_attention_options(options, scores, Q.dtype());
  return attend(Q, K, V, sizes, Heads::apart, scores, options);
}

Tensor detail::normalised(const Tensor& x, QkNorm norm) {
  const double gain = norm == QkNorm::l2 ? 1.0 / std::sqrt(double(x.shape(-1))) : 1.0;
  return rms_norm(x, full({x.shape(-1)}, gain, x.dtype()), 1e-12);
}

AttentionResult detail::attention_of_heads(const Tensor& Q, const Tensor& K, const Tensor& V, std::int64_t heads,
                                           std::int64_t kv_heads, const AttentionOptions& options) {
  AttentionSizes sizes{Q.shape(0), heads, kv_heads, Q.shape(1), K.shape(1), Q.shape(2) / heads, V.shape(2) / kv_heads,
                       Heads::side_by_side};
  const Shape scores{sizes.batch, heads, sizes.Tq, sizes.Tk};
  check_attention_options(options, scores, Q.dtype());
  if (fuses(options) && options.qk_norm == QkNorm::none && heads == kv_heads && !options.return_stats)
    return {in_one_op(Q, K, V, sizes, Heads::side_by_side, scores, options), {}, {}};
  sizes.lie = Heads::apart;
  AttentionResult result = attend(split_heads(Q, heads), split_heads(K, kv_heads), split_heads(V, kv_heads), sizes,
                                  Heads::side_by_side, scores, options);
  result.output = join_heads(result.output);
  return result;
}

}  // namespace surgeon
