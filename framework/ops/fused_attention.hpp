// softmax(scale Q K^T) V as one op, with memory that grows with T and not with T * T. For attention in layers/, which
// has the checks, the options and the same thing in plain ops.
#pragma once

#include <cstdint>

#include "framework/autograd.hpp"

namespace surgeon::detail {

struct FusedAttentionOptions {
  Tensor mask = {};         // boolean, true = may attend: [Tq, Tk], [B, Tq, Tk] or [B, heads, Tq, Tk]; sizes may be 1
  bool causal = false;      // also: query i sees key j only when j <= i + Tk - Tq
  double scale = 1.0;
  std::int64_t heads = 1;   // of 3-D inputs, lying side by side in their last axis
};

// Q [B, Tq, heads * d_k], K [B, Tk, heads * d_k], V [B, Tk, heads * d_v] -> [B, Tq, heads * d_v]; or all of them
// [B, heads, T, d]. float32 or float64. A query that sees nothing gives 0; what is not seen has no part in the result
// or in a gradient, be it nan. reference: the same function in plain ops of (Q, K, V) or (Q, K, V, mask), for higher
// derivatives. Bit-equal from run to run and for any number of threads.
Tensor fused_attention(const Tensor& Q, const Tensor& K, const Tensor& V, const FusedAttentionOptions& options,
                       Reference reference);

}  // namespace surgeon::detail
