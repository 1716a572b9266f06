// Attention masks: boolean, true = may attend. Here is their shape; what a mask does is attention's business.
#pragma once

#include "framework/tensor.hpp"

namespace surgeon {

Tensor causal_mask(std::int64_t T);    // [T, T], lower triangle: query i sees keys 0 .. i
Tensor reverse_mask(std::int64_t T);   // [T, T], upper triangle: query i sees keys i .. T-1 (the notebook's wrong mask)
Tensor no_mask(std::int64_t T);        // [T, T], all true

}  // namespace surgeon
