#include "layers/multi_head_attention.hpp"

#include "framework/errors.hpp"
#include "framework/probe.hpp"
#include "layers/collect.hpp"

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

// A batch entry's own mask holds for all of its heads.
Tensor mask_of_heads(const Tensor& mask, std::int64_t batch) {
  if (mask.rank() != 3) return mask;
  require(mask.shape(0) == batch || mask.shape(0) == 1, "MultiHeadAttention: a mask ", mask.shape(),
          " does not fit a batch of ", batch);
  return reshape(mask, {mask.shape(0), 1, mask.shape(1), mask.shape(2)});
}

void check_tokens(const char* name, const Tensor& x, std::int64_t d_model) {
  require_value("MultiHeadAttention", x);
  require(x.rank() == 3 && x.shape(2) == d_model, "MultiHeadAttention: ", name, " ", x.shape(), " must be [batch, T, ",
          d_model, "]");
}

// x after what was there before, along the axis of tokens.
Tensor grown(const Tensor& before, const Tensor& x) { return before.empty() ? x : concat({before, x}, 1); }

void check_cache(const KeyValueCache& cache, const Tensor& x, std::int64_t width) {
  if (cache.K.empty() && cache.V.empty()) return;
  for (const Tensor* kept : {&cache.K, &cache.V})
    require(kept->defined() && kept->rank() == 3 && kept->shape(0) == x.shape(0) && kept->shape(2) == width &&
                kept->shape(1) == cache.length() && kept->dtype() == x.dtype(),
            "MultiHeadAttention: the cache holds K ", cache.K.shape(), " and V ", cache.V.shape(),
            ", which do not fit x ", x.shape(), ": needs [", x.shape(0), ", T, ", width, "] of the same dtype");
}

}  // namespace

MultiHeadAttention::MultiHeadAttention(std::int64_t d_model_, std::int64_t num_heads_, Rng& rng, Dtype dtype)
    : MultiHeadAttention(d_model_, num_heads_, MultiHeadConfig{}, rng, dtype) {}

MultiHeadAttention::MultiHeadAttention(std::int64_t d_model_, std::int64_t num_heads_, const MultiHeadConfig& config,
                                       Rng& rng, Dtype dtype)
    : d_model(d_model_), num_heads(checked_heads(d_model_, num_heads_)),
      kv_heads(checked_kv_heads(config.kv_heads, num_heads)), d_k(d_model / num_heads), rotary_base(config.rotary_base),
      rotary_width(config.rotary_width), rotary_pairs(config.rotary_pairs),
      W_q(d_model, d_model, rng, dtype, config.bias), W_k(d_model, kv_heads * d_k, rng, dtype, config.bias),
      W_v(d_model, kv_heads * d_k, rng, dtype, config.bias), W_o(d_model, d_model, rng, dtype, config.bias) {
  if (config.learned_scale) scale = full({num_heads}, *config.learned_scale, dtype);
}

AttentionResult MultiHeadAttention::operator()(const Tensor& x, const AttentionOptions& options) const {
  KeyValueCache nothing_before;
  return step(x, nothing_before, options);
}

AttentionResult MultiHeadAttention::step(const Tensor& x, KeyValueCache& cache, const AttentionOptions& options) const {
  check_tokens("x", x, d_model);
  check_cache(cache, x, kv_heads * d_k);
  const Tensor Q = probe("Q", W_q(x)), K = probe("K", W_k(x)), V = probe("V", W_v(x));
  const std::int64_t first = cache.length();
  KeyValueCache all{grown(cache.K, rotated(K, kv_heads, first)), grown(cache.V, V)};
  AttentionResult result = attend(rotated(Q, num_heads, first), all.K, all.V, options);
  cache = std::move(all);
  return result;
}

AttentionResult MultiHeadAttention::cross(const Tensor& x, const Tensor& memory,
                                          const AttentionOptions& options) const {
  check_tokens("x", x, d_model);
  check_tokens("memory", memory, d_model);
  require(memory.shape(0) == x.shape(0), "MultiHeadAttention: x ", x.shape(), " and memory ", memory.shape(),
          ": batch sizes ", x.shape(0), " and ", memory.shape(0), " differ");
  const Tensor Q = probe("Q", W_q(x)), K = probe("K", W_k(memory)), V = probe("V", W_v(memory));
  return attend(rotated(Q, num_heads, 0), rotated(K, kv_heads, 0), V, options);
}

// Q [B, Tq, heads * d_k], K and V [B, Tk, kv_heads * d_k]
AttentionResult MultiHeadAttention::attend(const Tensor& Q, const Tensor& K, const Tensor& V,
                                           const AttentionOptions& options) const {
  AttentionOptions per_head = options;
  if (options.mask.defined()) per_head.mask = mask_of_heads(options.mask, Q.shape(0));
  if (scale.defined()) per_head.scale = scale;
  AttentionResult result = detail::attention_of_heads(Q, K, V, num_heads, kv_heads, per_head);
  result.output = probe("output", W_o(probe("heads", result.output)));
  return result;
}

// x [B, T, heads * d_k], each head on its own; the first token stands at position `first`.
Tensor MultiHeadAttention::rotated(const Tensor& x, std::int64_t heads, std::int64_t first) const {
  if (rotary_base <= 0.0) return x;
  const Tensor with_heads = reshape(x, {x.shape(0), x.shape(1), heads, d_k});
  return reshape(rotary(with_heads, {.base = rotary_base, .first = first, .pairs = rotary_pairs, .width = rotary_width,
                                     .axis_of_places = -3}),
                 x.shape());
}

Parameters MultiHeadAttention::parameters() const {
  return collect("W_q", W_q, "W_k", W_k, "W_v", W_v, "W_o", W_o, "scale", scale);
}

}  // namespace surgeon
