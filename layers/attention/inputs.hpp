// What attention is given, checked at the door, and its masks brought to one form.
#pragma once

#include "layers/attention.hpp"

namespace surgeon::detail {

// std::invalid_argument for shapes, dtypes and options that do not fit; scores: their shape, [..., Tq, Tk].
void check_attention(const Tensor& Q, const Tensor& K, const Tensor& V);
void check_attention_options(const AttentionOptions& options, const Shape& scores, Dtype dtype);

// Boolean, true where query i sees key j, broadcasting to the scores; empty when all is seen. Without with_causal
// options.causal is left out.
Tensor visible_keys(const AttentionOptions& options, const Shape& scores, bool with_causal);

}  // namespace surgeon::detail
