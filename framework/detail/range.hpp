// A tensor's numbers in a few words, for listings of graphs and for anomalies.
#pragma once

#include <cstdint>
#include <string>

#include "framework/tensor.hpp"

namespace surgeon::detail {

struct Range {   // low and high of the finite values; first_bad: the place of the first other one, or -1
  double low = 0, high = 0;
  std::int64_t nans = 0, infinities = 0, first_bad = -1, finite = 0;
};

Range range_of(const Tensor& x);
std::string short_number(double x);        // four digits
std::string text_of(const Range& range);   // "[-1.2, 3], 2 nan"
std::string described(const Tensor& x);    // "[2, 3] float32 in [-1.2, 3]"

}  // namespace surgeon::detail
