// Known mistakes in the backward pass of an attention whose forward pass is explained.
#pragma once

#include <optional>
#include <vector>

#include "layers/doctor/rounding.hpp"

namespace surgeon::detail {

// The mistake that explains every gradient given, when the chain rule does not: its laws are broken, or whole tensors
// are further off than rounding makes likely.
std::optional<Finding> backward_mistake(const Specimen& sequence, const std::vector<Head>& heads, int broken_laws);

}   // namespace surgeon::detail
