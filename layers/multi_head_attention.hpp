// MultiHeadAttention: project, attend in each head, join, project. Vaswani et al. 2017, section 3.2.2.
#pragma once

#include "layers/attention.hpp"
#include "layers/linear.hpp"

namespace surgeon {

struct MultiHeadAttention {
  // std::invalid_argument unless num_heads >= 1 divides d_model.
  MultiHeadAttention(std::int64_t d_model, std::int64_t num_heads, Rng& rng, Dtype dtype = Dtype::float32);

  // x [B, T, d_model] -> output [B, T, d_model]; weights and scores [B * heads, T, T], head index fastest.
  // A 3-D mask [B, T, T] holds for every head of its batch entry.
  AttentionResult operator()(const Tensor& x, const AttentionOptions& options = {}) const;
  Parameters parameters() const;   // W_q.weight, W_q.bias, W_k.weight, ... W_o.bias

  std::int64_t d_model, num_heads, d_k;
  Linear W_q, W_k, W_v, W_o;
};

}  // namespace surgeon
