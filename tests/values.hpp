// A tensor's numbers, so that nan and bits can be compared.
#pragma once

#include <cmath>
#include <vector>

#include "framework/tensor.hpp"

namespace surgeon::tests {

inline std::vector<double> list(const Tensor& x) {
  const Tensor wide = x.to(Dtype::float64);
  const auto values = wide.values<double>();
  return {values.begin(), values.end()};
}

inline bool all_finite(const Tensor& x) {
  for (double v : list(x))
    if (!std::isfinite(v)) return false;
  return true;
}

inline bool all_nan(const Tensor& x) {
  for (double v : list(x))
    if (!std::isnan(v)) return false;
  return true;
}

}  // namespace surgeon::tests
