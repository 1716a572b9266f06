// Signs of illness that are no mistake in a formula: dropout, heads that are dead or doubles, saturation, collapse,
// sinks, and gradients that were never connected.
#pragma once

#include <vector>

#include "layers/doctor/laws.hpp"

namespace surgeon::detail {

// Of one sequence, [1, heads, T, d], in float64. weights: [1, heads, Tq, Tk], by the formula
// that explains what was given.
std::vector<Finding> signs_of(const Specimen& sequence, const Tensor& weights, double u);

}  // namespace surgeon::detail
