// One run of element-by-element work on raw numbers. Who calls it has dealt with shapes, broadcasting and threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "framework/kernels/dispatch.hpp"

namespace surgeon::kernels {

enum class Unary { negate, abs, sign, exp, log, sqrt, tanh, sigmoid, relu, softplus, erf, sin, cos, log1p, expm1, erfc, floor, ceil, round, count };
enum class Binary { add, subtract, multiply, divide, maximum, minimum, count };
enum class Compare { equal, not_equal, less, less_equal, greater, greater_equal, count };

// A run of one operand: numbers one after the other, or the same one again and again (step 0).
template <class T>
struct Run {
  const T* data;
  bool steps;
};

template <class T>
struct Elementwise {
  void (*unary[std::size_t(Unary::count)])(const T* x, T* y, std::int64_t n);   // y may be x
  void (*binary[std::size_t(Binary::count)])(Run<T> a, Run<T> b, T* y, std::int64_t n);
  void (*compare[std::size_t(Compare::count)])(Run<T> a, Run<T> b, bool* y, std::int64_t n);
  void (*select)(Run<bool> condition, Run<T> a, Run<T> b, T* y, std::int64_t n);   // condition ? a : b
};

template <class T> const Elementwise<T>& elementwise() noexcept;   // T: float, double, std::int64_t

namespace baseline {
extern const Elementwise<float> elementwise_float;
extern const Elementwise<double> elementwise_double;
extern const Elementwise<std::int64_t> elementwise_int64;
}
namespace v3 {
extern const Elementwise<float> elementwise_float;
extern const Elementwise<double> elementwise_double;
extern const Elementwise<std::int64_t> elementwise_int64;
}
namespace v4 {
extern const Elementwise<float> elementwise_float;
extern const Elementwise<double> elementwise_double;
extern const Elementwise<std::int64_t> elementwise_int64;
}

}  // namespace surgeon::kernels
