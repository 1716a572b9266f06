// Products over what a mask leaves visible: 0 * nan is nan, so a weight of 0 is not enough to keep a masked value out.
// The two ops are each other's derivatives, so attention with a mask can be differentiated to any order.
#pragma once

#include "framework/framework.hpp"

namespace surgeon::detail {

// visible: boolean, true where query i sees key j; it broadcasts to [..., Tq, Tk].

// factor * X_i . Y_j where visible, else fill: X [..., Tq, d], Y [..., Tk, d] -> [..., Tq, Tk]
Tensor visible_scores(const Tensor& X, const Tensor& Y, const Tensor& visible, double factor, double fill);

// The sum over what is visible: of A_ij B_j over keys j, [..., Tq, d]; of A_ij B_i over queries i, [..., Tk, d].
// A [..., Tq, Tk] must be 0 elsewhere, but in a row with nan it may be nan there.
enum class SumOver { keys, queries };
Tensor visible_sum(const Tensor& A, const Tensor& B, const Tensor& visible, SumOver over);

}  // namespace surgeon::detail
