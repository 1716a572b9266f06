#include "layers/multi_head_attention.hpp"

#include "framework/errors.hpp"
#include "framework/probe.hpp"
#include "layers/positions.hpp"

namespace surgeon {


namespace {

std::int64_t checked_heads(std::int64_t d_model, std::int64_t num_heads) {
  require(d_model >= 1 && num_heads >= 1, "MultiHeadAttention: d_model = ", d_model, ", num_heads = ", num_heads,
          ": both must be at least 1");
  require(d_model % num_heads == 0, "MultiHeadAttention: d_model = ", d_model, " cannot be divided into ", num_heads,
          " heads");
  return num_heads;
}

std::int64_t checked_kv_heads(std::int64_t kv_heads, std::int64_t num_heads) {
  if (kv_heads == 0) return num_heads;
  require(kv_heads >= 1 && num_heads % kv_heads == 0, "MultiHeadAttention: kv_heads = ", kv_heads,
          " does not divide num_heads = ", num_heads);
  return kv_heads;
}

// [B, T, heads * d_k], each head rotated on its own
Tensor rotary_heads(const Tensor& x, std::int64_t heads, double base) {
  const Tensor with_heads = reshape(x, {x.shape(0), x.shape(1), heads, x.shape(2) / heads});
  return reshape(rotary(with_heads, base, -3), x.shape());
}

// A batch entry's own mask holds for all of its heads.
Tensor mask_of_heads(const Tensor& mask, std::int64_t batch) {
  if (mask.rank() != 3) return mask;
  require(mask.shape(0) == batch || mask.shape(0) == 1, "MultiHeadAttention: a mask ", mask.shape(),
          " does not fit a batch of ", batch);
  return reshape(mask, {mask.shape(0), 1, mask.shape(1), mask.shape(2)});
}

}  // namespace

MultiHeadAttention::MultiHeadAttention(std::int64_t d_model_, std::int64_t num_heads_, Rng& rng, Dtype dtype)
    : MultiHeadAttention(d_model_, num_heads_, MultiHeadConfig{}, rng, dtype) {}

MultiHeadAttention::MultiHeadAttention(std::int64_t d_model_, std::int64_t num_heads_, const MultiHeadConfig& config,
                                       Rng& rng, Dtype dtype)
    : d_model(d_model_), num_heads(checked_heads(d_model_, num_heads_)),
      kv_heads(checked_kv_heads(config.kv_heads, num_heads)), d_k(d_model / num_heads), rotary_base(config.rotary_base),
      W_q(d_model, d_model, rng, dtype, config.bias), W_k(d_model, kv_heads * d_k, rng, dtype, config.bias),
      W_v(d_model, kv_heads * d_k, rng, dtype, config.bias), W_o(d_model, d_model, rng, dtype, config.bias) {
  if (config.learned_scale) scale = full({num_heads}, *config.learned_scale, dtype);
}

AttentionResult MultiHeadAttention::operator()(const Tensor& x, const AttentionOptions& options) const {
  require_value("MultiHeadAttention", x);
  require(x.rank() == 3 && x.shape(2) == d_model, "MultiHeadAttention: x ", x.shape(), " must be [batch, T, ",
          d_model, "]");
  AttentionOptions per_head = options;
  if (options.mask.defined()) per_head.mask = mask_of_heads(options.mask, x.shape(0));
  if (scale.defined()) per_head.scale = scale;
  Tensor Q = probe("Q", W_q(x)), K = probe("K", W_k(x));
  const Tensor V = probe("V", W_v(x));
  if (rotary_base > 0.0) {
    Q = rotary_heads(Q, num_heads, rotary_base);
    K = rotary_heads(K, kv_heads, rotary_base);
  }
  AttentionResult result = detail::attention_of_heads(Q, K, V, num_heads, kv_heads, per_head);
  result.output = probe("output", W_o(probe("heads", result.output)));
  return result;
}

Parameters MultiHeadAttention::parameters() const {
  Parameters all;
  all.add("W_q", W_q.parameters());
  all.add("W_k", W_k.parameters());
  all.add("W_v", W_v.parameters());
  all.add("W_o", W_o.parameters());
  if (scale.defined()) all.add("scale", scale);
  return all;
}

}  // namespace surgeon
