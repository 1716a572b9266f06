// KeyValueCache: what attention has to remember of the tokens so far, so that a new one costs one row of scores.
#pragma once

#include "framework/tensor.hpp"

namespace surgeon {

// Of one attention layer; empty before the first token. MultiHeadAttention keeps K as its queries meet it: rotated.
struct KeyValueCache {
  Tensor K = {}, V = {};   // [B, T, kv_heads * d_k]
  std::int64_t length() const { return K.empty() ? 0 : K.shape(1); }   // T, the number of tokens so far
};

}  // namespace surgeon
