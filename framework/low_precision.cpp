#include "framework/low_precision.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/errors.hpp"

namespace surgeon {

namespace {

struct Layout {
  const char* name;
  int bits, least_exponent;   // of the significand, with the leading one; of the smallest normal number
  double largest, beyond;
};

constexpr double infinity = std::numeric_limits<double>::infinity();

const Layout& layout_of(Format format) {
  static const Layout layouts[] = {{"bfloat16", 8, -126, 0x1.fep127, infinity},
                                  {"float16", 11, -14, 65504, infinity},
                                  {"e4m3", 4, -6, 448, std::numeric_limits<double>::quiet_NaN()},
                                  {"e5m2", 3, -14, 57344, infinity}};
  return layouts[int(format)];
}

}  // namespace

const char* to_string(Format format) { return layout_of(format).name; }

double rounded_to(double x, Format format) {
  const Layout& f = layout_of(format);
  if (x == 0 || std::isnan(x)) return x;
  const int exponent = std::isinf(x) ? 0 : std::max(std::ilogb(x), f.least_exponent);
  const double unit = std::ldexp(1.0, exponent - (f.bits - 1));   // in the last place
  const double nearest = std::isinf(x) ? x : std::nearbyint(x / unit) * unit;
  return std::abs(nearest) > f.largest ? std::copysign(f.beyond, x) : nearest;
}

Tensor rounded_to(const Tensor& x, Format format) {
  require_value("rounded_to", x);
  require(is_floating(x.dtype()), "rounded_to: ", x.dtype(), " has no fractions to round");
  const auto all = [&](const auto& numbers) {
    auto rounded = std::vector(numbers.begin(), numbers.end());
    for (auto& v : rounded) v = decltype(v + 0)(rounded_to(double(v), format));
    return tensor(rounded, x.shape());
  };
  return x.dtype() == Dtype::float32 ? all(x.values<float>()) : all(x.values<double>());
}

}  // namespace surgeon
