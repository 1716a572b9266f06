// The plain path of attention, with scores and weights as tensors, every score rule, and when a fused op does the same.
#include "layers/attention.hpp"

#include <cmath>
#include <limits>

#include "framework/errors.hpp"
#include "framework/probe.hpp"
#include "layers/attention/inputs.hpp"
#include "layers/attention/masked_products.hpp"

namespace surgeon {


namespace {

// x with zeros where no score reads it, so that a nan there has no derivative either. axis: the one of the others.
Tensor clear_unread(const Tensor& x, const Tensor& hidden, int axis) {
  if (hidden.empty()) return x;
  const Tensor table = hidden.rank() < 2 ? reshape(hidden, {1, hidden.size()}) : hidden;
  const Tensor readers = sum(!table, Over{{axis}, true});
  return masked_fill(x, (axis == -2 ? transpose(readers, -1, -2) : readers) == 0.0, 0.0);
}

Tensor normalised(const Tensor& x, QkNorm norm) {
  const double gain = norm == QkNorm::l2 ? 1.0 / std::sqrt(double(x.shape(-1))) : 1.0;
  return rms_norm(x, full({x.shape(-1)}, gain, x.dtype()), 1e-12);
}

// What enters softmax: bias + cap(factor * products), -inf where hidden.
Tensor scores_of(const Tensor& Q, const Tensor& K, const Tensor& hidden, const AttentionOptions& options) {
  const Tensor& learned = options.scale.learned();
  const double factor = learned.defined() ? 1.0 : options.scale.factor(Q.shape(-1), K.shape(-2));
  const double minus_infinity = -std::numeric_limits<double>::infinity();
  const bool bare = learned.empty() && options.soft_cap == 0.0 && options.bias.empty();
  Tensor scores;   // [..., Tq, Tk]
  if (hidden.empty()) {
    scores = matmul(Q, K, {.transpose_b = true});
    if (factor != 1.0) scores = scores * factor;
  } else {
    scores = detail::seen_scores(Q, K, hidden, factor, bare ? minus_infinity : 0.0);
  }
  if (bare) return scores;
  if (learned.defined()) scores = scores * reshape(learned, {learned.size(), 1, 1});
  if (options.soft_cap > 0.0) scores = tanh(scores / options.soft_cap) * options.soft_cap;
  if (options.bias.defined()) scores = scores + options.bias;
  return hidden.empty() ? scores : masked_fill(scores, hidden, minus_infinity);
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

// flat: scores and weights lose the axis of heads on their way, so that those returned lie on the path to the output.
AttentionResult in_plain_ops(const Tensor& Q, const Tensor& K, const Tensor& V, const Tensor& hidden, bool flat,
                             const AttentionOptions& options) {
  Tensor scores = scores_of(Q, K, hidden, options);
  const Shape shape = scores.shape();
  if (flat) scores = reshape(scores, {shape[0] * shape[1], shape[2], shape[3]});
  scores = probe("scores", scores);
  const Tensor weights = probe("weights", weights_of(scores, options));
  Tensor applied = options.dropout > 0.0 && options.rng ? dropout(weights, options.dropout, *options.rng) : weights;
  if (flat) applied = reshape(applied, shape);
  const Tensor output = hidden.empty() ? matmul(applied, V) : detail::seen_sum(applied, V, hidden, false);
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

// heads: of 3-D inputs with heads side by side in their last axis.
Tensor in_one_op(const Tensor& Q, const Tensor& K, const Tensor& V, std::int64_t heads, const Shape& scores,
                 const AttentionOptions& options) {
  const double factor = options.scale.factor(Q.shape(-1) / heads, K.shape(-2));
  Tensor mask = detail::visible_keys(options, scores, false);
  if (mask.defined() && mask.rank() < 2) mask = reshape(mask, {1, mask.size()});
  const AttentionOptions same{.scale = factor, .causal = options.causal};   // but for the mask: a rule holds no tensors
  const bool apart = scores.size() > static_cast<std::size_t>(Q.rank());   // heads lie joined, be it a single one
  const auto reference = [same, heads, apart](std::span<const Tensor> in) {
    AttentionOptions rules = same;
    if (in.size() > 3) rules.mask = in[3];
    const Tensor q = apart ? split_heads(in[0], heads) : in[0], k = apart ? split_heads(in[1], heads) : in[1];
    const Tensor v = apart ? split_heads(in[2], heads) : in[2];
    Shape shape = q.shape();
    shape.back() = k.shape(-2);
    const Tensor visible = detail::visible_keys(rules, shape, true);
    const Tensor y = in_plain_ops(q, k, v, visible.empty() ? visible : !visible, false, rules).output;
    return apart ? join_heads(y) : y;
  };
  return fused_attention(Q, K, V, {.mask = mask, .causal = options.causal, .scale = factor, .heads = heads},
                                 reference);
}

// [B, kv_heads, T, d] -> [B, heads, T, d]
Tensor shared_heads(const Tensor& x, std::int64_t heads) {
  const Shape& s = x.shape();
  if (s[1] == heads) return x;
  return reshape(broadcast_to(reshape(x, {s[0], s[1], 1, s[2], s[3]}), {s[0], s[1], heads / s[1], s[2], s[3]}),
                 {s[0], heads, s[2], s[3]});
}

Shape checked_scores(const Tensor& Q, const Tensor& K, const Tensor& V, const AttentionOptions& options) {
  detail::check_attention(Q, K, V);
  Shape scores = Q.shape();
  scores.back() = K.shape(-2);
  detail::check_attention_options(options, scores, Q.dtype());
  return scores;
}

AttentionResult attend(Tensor Q, Tensor K, Tensor V, bool flat, const AttentionOptions& options) {
  const Shape scores = checked_scores(Q, K, V, options);
  if (Q.rank() == 4) {
    K = shared_heads(K, Q.shape(1));
    V = shared_heads(V, Q.shape(1));
  }
  const bool fused = fuses(options);
  Tensor hidden;
  if (!fused || options.qk_norm != QkNorm::none) {
    hidden = detail::visible_keys(options, scores, true);
    if (hidden.defined()) hidden = !hidden;
  }
  if (options.qk_norm != QkNorm::none) {
    Q = normalised(clear_unread(Q, hidden, -1), options.qk_norm);
    K = normalised(clear_unread(K, hidden, -2), options.qk_norm);
  }
  if (fused) return {in_one_op(Q, K, V, 1, scores, options), {}, {}};
  return in_plain_ops(Q, K, V, hidden, flat, options);
}

}  // namespace

double Scale::factor(std::int64_t d_k, std::int64_t n) const {
  switch (kind_) {
    case Kind::none: return 1.0;
    case Kind::inverse_sqrt: return 1.0 / std::sqrt(double(d_k));
    case Kind::number: return number_;
    case Kind::inverse: return 1.0 / double(d_k);
    case Kind::log_n: return std::log(double(n)) / std::sqrt(double(d_k));
    default: throw std::invalid_argument("Scale: a learned scale is no one number");
  }
}

AttentionResult attention(const Tensor& Q, const Tensor& K, const Tensor& V, const AttentionOptions& options) {
  return attend(Q, K, V, false, options);
}

AttentionResult detail::attention_of_heads(const Tensor& Q, const Tensor& K, const Tensor& V, std::int64_t heads,
                                           std::int64_t kv_heads, const AttentionOptions& options) {
  if (fuses(options) && options.qk_norm == QkNorm::none && heads == kv_heads) {
    const Shape scores{Q.shape(0), heads, Q.shape(1), K.shape(1)};
    detail::check_attention_options(options, scores, Q.dtype());
    return {in_one_op(Q, K, V, heads, scores, options), {}, {}};
  }
  AttentionResult result =
      attend(split_heads(Q, heads), split_heads(K, kv_heads), split_heads(V, kv_heads), true, options);
  result.output = join_heads(result.output);
  return result;
}

}  // namespace surgeon
