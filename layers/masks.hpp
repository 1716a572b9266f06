// Attention masks (boolean, true = may attend) and biases that depend on positions alone. What attention does with them
// is said in attention.hpp.
#pragma once

#include <vector>

#include "framework/tensor.hpp"

namespace surgeon {

Tensor causal_mask(std::int64_t T);    // [T, T], lower triangle: query i sees keys 0 .. i
Tensor reverse_mask(std::int64_t T);   // [T, T], upper triangle: query i sees keys i .. T-1, a common mistake
Tensor no_mask(std::int64_t T);        // [T, T], all true
Tensor window_mask(std::int64_t T, std::int64_t window);   // [T, T]: query i sees keys i - window + 1 .. i; window >= 1

// [B, 1, T]: batch entry b has lengths[b] tokens and is padded on one side up to T; true for the tokens. Together with
// causal: {.mask = padding_mask(...), .causal = true}. std::invalid_argument for a length outside [0, T].
enum class Side { left, right };
Tensor padding_mask(const std::vector<std::int64_t>& lengths, std::int64_t T, Side padded = Side::right);
// True where both masks are. They broadcast; each holds booleans, or floats 0 and 1 (std::invalid_argument for others).
Tensor both(const Tensor& a, const Tensor& b);

// ALiBi: -slope_h * |i - j|, [heads, T, T]; slopes 2^(-8 h / heads) for h = 1 .. heads when heads is a power of two,
// else those of the power below and every other one of the power above. Press 2021, arXiv 2108.12409.
Tensor alibi_bias(std::int64_t heads, std::int64_t T, Dtype dtype = Dtype::float32);
// [heads, Tq, Tk], its last Tq rows at T = Tk: the queries are the newest tokens. std::invalid_argument for Tq > Tk.
Tensor alibi_bias(std::int64_t heads, std::int64_t Tq, std::int64_t Tk, Dtype dtype = Dtype::float32);

namespace detail {
// The mask in booleans; std::invalid_argument for floats other than 0 and 1.
Tensor boolean_mask(const char* op, const Tensor& mask);
}  // namespace detail

}  // namespace surgeon
