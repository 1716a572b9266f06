// MultiHeadAttention: project, attend in each head, join the heads, project. Vaswani et al. 2017, section 3.2.2.
#pragma once

#include <optional>

#include "layers/attention.hpp"
#include "layers/linear.hpp"

namespace surgeon {

struct MultiHeadConfig {
  std::int64_t kv_heads = 0;                   // heads of keys and values, each shared by a group; 0: num_heads
  bool bias = true;                            // in all four projections
  std::optional<double> learned_scale = {};    // a factor for each head, the parameter "scale", and its first value
  double rotary_base = 0.0;                    // > 0: queries and keys are rotated by position (positions.hpp)
};

struct MultiHeadAttention {
  // std::invalid_argument unless num_heads divides d_model and kv_heads divides num_heads.
  MultiHeadAttention(std::int64_t d_model, std::int64_t num_heads, Rng& rng, Dtype dtype = Dtype::float32);
  MultiHeadAttention(std::int64_t d_model, std::int64_t num_heads, const MultiHeadConfig& config, Rng& rng,
                     Dtype dtype = Dtype::float32);

  // x [B, T, d_model] -> output [B, T, d_model]; weights and scores [B * heads, T, T], head index fastest.
  // A mask [B, T, T] holds for every head of its batch entry; a mask [B, heads, T, T] has one for each head.
  // A learned scale replaces options.scale.
  // Probes: Q [B, T, heads * d_k], K, V [B, T, kv_heads * d_k], scores, weights, heads (their joined outputs), output.
  AttentionResult operator()(const Tensor& x, const AttentionOptions& options = {}) const;
  Parameters parameters() const;   // W_q.weight, W_q.bias, W_k.weight, ... W_o.bias; scale [heads] if it is learned

  std::int64_t d_model, num_heads, kv_heads, d_k;
  double rotary_base;
  Linear W_q, W_k, W_v, W_o;
  Tensor scale;   // empty unless learned
};

}  // namespace surgeon
