// Division by the gaps of a spectrum, which every derivative of singular vectors and eigenvectors has to pass.
#pragma once

#include "framework/tensor.hpp"

namespace surgeon::linalg {

enum class Gap { eigenvalues, singular_values, from_zero };   // w_j - w_i, s_j - s_i, s_j

// x [..., r, k] over the gaps of s [..., k]: x_ij / (s_j - s_i), and 0 for i = j; or x_ij / s_j. Where a gap is 0 to
// rounding, x must be exactly 0, which then gives 0: the loss does not use those vectors. A loss that uses them in a
// way that does not depend on the basis may well have a derivative, but the vectors' gradients alone do not tell it: it
// depends on what else the loss does with the values. The rule divides again, so higher derivatives, and jvp, which
// walks back with a gradient of zeros first, are refused in just the same cases.
Tensor over_gaps(Gap kind, const Tensor& x, const Tensor& s);

}  // namespace surgeon::linalg
