// The options of attention, checked, and its masks brought to one form.
#pragma once

#include "layers/attention.hpp"

namespace surgeon::detail {

// std::invalid_argument for options that do not fit scores of this shape, [..., Tq, Tk], or the inputs' dtype.
void check_attention_options(const AttentionOptions& options, const Shape& scores, Dtype dtype);

// Boolean, true where query i sees key j, broadcasting to the scores; empty when everything is visible.
enum class Causal { included, left_out };   // whether options.causal is part of it
Tensor visible_keys(const AttentionOptions& options, const Shape& scores, Causal with);
// The same for the queries first .. first + n - 1 of the scores alone, the causal mask included.
Tensor visible_to(const AttentionOptions& options, const Shape& scores, std::int64_t first, std::int64_t n);
// Rows first .. first + n - 1 of what broadcasts to the scores.
Tensor rows_of(const Tensor& x, std::int64_t first, std::int64_t n);

}  // namespace surgeon::detail
