// Signs of illness that are no mistake in a formula: dropout, heads that are dead or doubles, rows that cannot learn;
// and observations, which are true of healthy layers too: sharp heads, sinks, tokens that are all the same.
#pragma once

#include <vector>

#include "layers/doctor/rounding.hpp"

namespace surgeon::detail {

// Of one sequence, [1, heads, T, d], in float64, and its key heads. weights: [1, heads, Tq, Tk], by the formula that
// explains what was given.
std::vector<Finding> signs_of(const Specimen& sequence, const std::vector<Head>& heads, const Tensor& weights);

}   // namespace surgeon::detail
