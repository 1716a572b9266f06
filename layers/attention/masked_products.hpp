// Products over what a mask lets be seen: 0 * nan is nan, so a weight of 0 is not enough to keep a masked value out.
// The two ops are each other's derivatives, so attention with a mask can be differentiated to any order.
#pragma once

#include "framework/framework.hpp"

namespace surgeon::detail {

// hidden: boolean, true where query i does not see key j; it broadcasts to [..., Tq, Tk].

// factor * X_i . Y_j where seen, else fill: X [..., Tq, d], Y [..., Tk, d] -> [..., Tq, Tk]
Tensor seen_scores(const Tensor& X, const Tensor& Y, const Tensor& hidden, double factor, double fill);

// The sum over what is seen: of A_ij B_j over keys, [..., Tq, d]; transposed: of A_ij B_i over queries, [..., Tk, d].
// A [..., Tq, Tk] must be 0 where hidden, but in a row with nan it may be nan there.
Tensor seen_sum(const Tensor& A, const Tensor& B, const Tensor& hidden, bool transposed);

}  // namespace surgeon::detail
