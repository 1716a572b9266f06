#include "layers/multi_head_attention.hpp"

#include "framework/require.hpp"

namespace surgeon {

using detail::require;

namespace {

std::int64_t checked_heads(std::int64_t d_model, std::int64_t num_heads) {
  require(d_model >= 1 && num_heads >= 1, "MultiHeadAttention: d_model = ", d_model, ", num_heads = ", num_heads,
          ": both must be at least 1");
  require(d_model % num_heads == 0, "MultiHeadAttention: d_model = ", d_model, " does not divide into ", num_heads,
          " heads");
  return num_heads;
}

Tensor split_heads(const Tensor& x, std::int64_t heads) {
  const Tensor apart = reshape(x, {x.shape(0), x.shape(1), heads, x.shape(2) / heads});
  return reshape(permute(apart, {0, 2, 1, 3}), {x.shape(0) * heads, x.shape(1), x.shape(2) / heads});
}

Tensor join_heads(const Tensor& x, std::int64_t heads) {
  const Tensor apart = reshape(x, {x.shape(0) / heads, heads, x.shape(1), x.shape(2)});
  return reshape(permute(apart, {0, 2, 1, 3}), {x.shape(0) / heads, x.shape(1), heads * x.shape(2)});
}

// One mask for each head: a batch entry's own mask holds for all of its heads.
Tensor mask_of_heads(const Tensor& mask, std::int64_t batch, std::int64_t heads) {
  if (mask.rank() < 3) return mask;
  const Shape& shape = mask.shape();
  const bool per_head = mask.rank() == 4;
  require(mask.rank() <= 4 && (shape[0] == batch || shape[0] == 1) && (!per_head || shape[1] == heads || shape[1] == 1),
          "MultiHeadAttention: a mask ", shape, " does not fit a batch of ", batch, " with ", heads, " heads");
  const std::int64_t Tq = mask.shape(-2), Tk = mask.shape(-1);
  const Tensor apart = per_head ? mask : reshape(mask, {shape[0], 1, Tq, Tk});
  return reshape(broadcast_to(apart, {batch, heads, Tq, Tk}), {batch * heads, Tq, Tk});
}

}  // namespace

MultiHeadAttention::MultiHeadAttention(std::int64_t d_model_, std::int64_t num_heads_, Rng& rng, Dtype dtype)
    : d_model(d_model_), num_heads(checked_heads(d_model_, num_heads_)), d_k(d_model / num_heads),
      W_q(d_model, d_model, rng, dtype), W_k(d_model, d_model, rng, dtype), W_v(d_model, d_model, rng, dtype),
      W_o(d_model, d_model, rng, dtype) {}

AttentionResult MultiHeadAttention::operator()(const Tensor& x, const AttentionOptions& options) const {
  detail::require_value("MultiHeadAttention", x);
  require(x.rank() == 3 && x.shape(2) == d_model, "MultiHeadAttention: x ", x.shape(), " is not [batch, T, ", d_model,
          "]");
  AttentionOptions per_head = options;
  if (options.mask.defined()) per_head.mask = mask_of_heads(options.mask, x.shape(0), num_heads);
  AttentionResult result = attention(split_heads(W_q(x), num_heads), split_heads(W_k(x), num_heads),
                                     split_heads(W_v(x), num_heads), per_head);
  result.output = W_o(join_heads(result.output, num_heads));
  return result;
}

Parameters MultiHeadAttention::parameters() const {
  Parameters all;
  all.add("W_q", W_q.parameters());
  all.add("W_k", W_k.parameters());
  all.add("W_v", W_v.parameters());
  all.add("W_o", W_o.parameters());
  return all;
}

}  // namespace surgeon
