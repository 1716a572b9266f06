// MultiHeadAttention: project, attend in each head, join the heads, project. Vaswani et al. 2017, section 3.2.2.
#pragma once

#include <concepts>
#include <optional>

#include "layers/attention.hpp"
#include "layers/key_value_cache.hpp"
#include "layers/linear.hpp"
#include "layers/positions.hpp"

namespace surgeon {

struct MultiHeadConfig {
  std::int64_t kv_heads = 0;                   // heads of keys and values, each shared by a group; 0: num_heads
  bool bias = true;                            // in all four projections
  std::optional<double> learned_scale = {};    // a factor for each head, the parameter "scale", and its first value
  double rotary_base = 0.0;                    // > 0: queries and keys are rotated by position (positions.hpp)
  std::int64_t rotary_width = 0;               // of each head, the numbers that are rotated; 0: all
  RotaryPairs rotary_pairs = RotaryPairs::halves;
};

struct MultiHeadAttention {
  MultiHeadAttention() = default;   // empty: no parameters; a call is refused
  // std::invalid_argument unless num_heads divides d_model and kv_heads divides num_heads.
  MultiHeadAttention(std::int64_t d_model, std::int64_t num_heads, Rng& rng, Dtype dtype = Dtype::float32);
  MultiHeadAttention(std::int64_t d_model, std::int64_t num_heads, const MultiHeadConfig& config, Rng& rng,
                     Dtype dtype = Dtype::float32);

  // x [B, T, d_model] -> output [B, T, d_model]; weights and scores [B * heads, T, T], head index fastest.
  // A mask [B, T, T] holds for every head of its batch entry; a mask [B, heads, T, T] has one for each head.
  // A learned scale replaces options.scale.
  // Probes: Q [B, T, heads * d_k], K, V [B, T, kv_heads * d_k], scores, weights, heads (their joined outputs), output.
  AttentionResult operator()(const Tensor& x, const AttentionOptions& options = {}) const;
  // Cross attention: queries from x [B, Tq, d_model], keys and values from memory [B, Tk, d_model] -> output
  // [B, Tq, d_model]; weights and scores [B * heads, Tq, Tk]. Vaswani et al. 2017, section 3.2.3. Rotated positions are
  // counted from 0 in both. (A template, so that mha(x, {}) means the options.)
  template <std::same_as<Tensor> Memory>
  AttentionResult operator()(const Tensor& x, const Memory& memory, const AttentionOptions& options = {}) const {
    return cross(x, memory, options);
  }
  // x [B, T, d_model] follows the tokens in the cache, is added to it, and attends to all of them: Tk = T and those
  // before. With options.causal the outputs are those rows of one call with everything; a mask is [..., T, Tk].
  AttentionResult step(const Tensor& x, KeyValueCache& cache, const AttentionOptions& options = {}) const;
  Parameters parameters() const;   // W_q.weight, W_q.bias, W_k.weight, ... W_o.bias; scale [heads] if it is learned

  std::int64_t d_model = 0, num_heads = 0, kv_heads = 0, d_k = 0;
  double rotary_base = 0.0;
  std::int64_t rotary_width = 0;
  RotaryPairs rotary_pairs = RotaryPairs::halves;
  Linear W_q, W_k, W_v, W_o;
  Tensor scale;   // empty unless learned

 private:
  AttentionResult cross(const Tensor& x, const Tensor& memory, const AttentionOptions& options) const;
  AttentionResult attend(const Tensor& Q, const Tensor& K, const Tensor& V, const AttentionOptions& options) const;
  Tensor rotated(const Tensor& x, std::int64_t heads, std::int64_t first) const;
};

}  // namespace surgeon
