// One pass over a tensor's numbers.
#include "framework/detail/range.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "framework/detail/node.hpp"
#include "framework/errors.hpp"

namespace surgeon::detail {

std::string short_number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", x);
  return text;
}

Range range_of(const Tensor& x) {
  Range range;
  visit_dtype(x.dtype(), [&]<class T>(T) {
    const auto* values = data<T>(x);
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const double value = double(values[i]);
      if (std::isfinite(value)) {
        range.low = range.finite ? std::min(range.low, value) : value;
        range.high = range.finite++ ? std::max(range.high, value) : value;
        continue;
      }
      ++(std::isnan(value) ? range.nans : range.infinities);
      if (range.first_bad < 0) range.first_bad = i;
    }
  });
  return range;
}

std::string text_of(const Range& r) {
  std::string text = r.finite ? sentence("[", short_number(r.low), ", ", short_number(r.high), "]")
                               : std::string("no finite value");
  if (r.nans) text += ", " + std::to_string(r.nans) + " nan";
  if (r.infinities) text += ", " + std::to_string(r.infinities) + " inf";
  return text;
}

std::string described(const Tensor& x) {
  return to_string(x.shape()) + " " + to_string(x.dtype()) + " in " + text_of(range_of(x));
}

}  // namespace surgeon::detail
