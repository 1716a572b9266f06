// Rounding to few bits against every number that the format has.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "framework/framework.hpp"
#include "framework/low_precision.hpp"

using namespace surgeon;

namespace {

constexpr Format formats[] = {Format::bfloat16, Format::float16, Format::e4m3, Format::e5m2};

// All finite numbers >= 0, in the order of their codes: an even place is an even significand.
std::vector<double> all_of(int fraction_bits, int bias, int codes) {
  std::vector<double> numbers;
  for (int code = 0; code < codes; ++code) {
    const int exponent = code >> fraction_bits, fraction = code & ((1 << fraction_bits) - 1);
    const double significand = exponent == 0 ? fraction : fraction + (1 << fraction_bits);
    numbers.push_back(std::ldexp(significand, std::max(exponent, 1) - bias - fraction_bits));
  }
  return numbers;
}

std::vector<double> all_of(Format format) {
  switch (format) {
    case Format::bfloat16: return all_of(7, 127, 0x7f80);
    case Format::float16: return all_of(10, 15, 0x7c00);
    case Format::e4m3: return all_of(3, 7, 0x7f);   // the last code alone is nan
    default: return all_of(2, 15, 0x7c);
  }
}

// By search: the nearer neighbour, of two equally near the one with the even code.
double nearest(const std::vector<double>& numbers, double x) {
  const auto above = std::lower_bound(numbers.begin(), numbers.end(), x);
  if (above == numbers.begin()) return *above;
  if (above == numbers.end()) return std::nan("");   // the caller knows
  const double low = *(above - 1), high = *above;
  if (x - low != high - x) return x - low < high - x ? low : high;
  return (above - numbers.begin()) % 2 == 0 ? high : low;
}

}  // namespace

TEST_SUITE("low_precision") {

TEST_CASE("every number of each format stays what it is, on both sides of 0") {
  for (const Format format : formats) {
    CAPTURE(to_string(format));
    const std::vector<double> numbers = all_of(format);
    std::size_t wrong = 0;
    for (const double x : numbers) wrong += rounded_to(x, format) != x || rounded_to(-x, format) != -x;
    CHECK(wrong == 0);
    CHECK(std::signbit(rounded_to(-0.0, format)));
    CHECK(std::isnan(rounded_to(std::nan(""), format)));
  }
}

TEST_CASE("random float32 bit patterns, and all halves between neighbours, go to the nearest number, ties to even") {
  Rng rng(3);
  for (const Format format : formats) {
    CAPTURE(to_string(format));
    const std::vector<double> numbers = all_of(format);
    std::size_t wrong = 0;
    const auto check = [&](double x) { wrong += x <= numbers.back() && rounded_to(x, format) != nearest(numbers, x); };
    for (int i = 0; i < 100'000; ++i) {
      const float x = std::abs(std::bit_cast<float>(std::uint32_t(rng.next())));
      if (std::isfinite(x)) check(double(x));
      check(std::exp(rng.normal() * 4));
    }
    for (std::size_t i = 1; i < numbers.size(); ++i) check(0.5 * (numbers[i - 1] + numbers[i]));
    CHECK(wrong == 0);
  }
}

TEST_CASE("beyond the largest number: halfway rounds down to it when it is even, and farther is infinite, or nan in e4m3") {
  const double inf = std::numeric_limits<double>::infinity();
  CHECK(rounded_to(65519.9, Format::float16) == 65504);
  CHECK(rounded_to(65520, Format::float16) == inf);
  CHECK(rounded_to(-1e9, Format::float16) == -inf);
  CHECK(rounded_to(464, Format::e4m3) == 448);
  CHECK(std::isnan(rounded_to(464.1, Format::e4m3)));
  CHECK(std::isnan(rounded_to(inf, Format::e4m3)));
  CHECK(rounded_to(61439, Format::e5m2) == 57344);
  CHECK(rounded_to(61440, Format::e5m2) == inf);
  CHECK(rounded_to(3.4e38, Format::bfloat16) == inf);
  CHECK(rounded_to(inf, Format::bfloat16) == inf);
}

TEST_CASE("a tensor keeps its dtype and shape; integers are refused") {
  const Tensor x = tensor({{1.001f, -2.0f}, {1e-9f, 300.0f}});
  const Tensor y = rounded_to(x, Format::e4m3);
  CHECK(y.dtype() == Dtype::float32);
  CHECK(y.shape() == x.shape());
  CHECK(y.at({0, 0}) == 1);
  CHECK(y.at({1, 0}) == 0);
  CHECK(y.at({1, 1}) == 288);   // halfway from 288 to 320 is 304
  CHECK_THROWS_AS(rounded_to(tensor({std::int64_t{1}}), Format::e4m3), std::invalid_argument);
}

}
