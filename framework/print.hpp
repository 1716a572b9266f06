// Tensors as text: `std::cout << x` prints as NumPy does.
#pragma once

#include <iosfwd>
#include <string>

#include "framework/tensor.hpp"

namespace surgeon {

// The numbers in nested brackets: at most 8 digits after the point, exponents when the magnitudes ask for them, lines of
// 75 columns, and only three numbers at each edge when there are more than 1000. An empty handle prints "(empty tensor)".
std::string to_string(const Tensor& x);
std::ostream& operator<<(std::ostream& out, const Tensor& x);

}  // namespace surgeon
