#include "layers/masks.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "framework/errors.hpp"
#include "framework/ops.hpp"

namespace surgeon {

namespace {

template <class Sees>
Tensor mask(const char* name, std::int64_t T, Sees sees) {
  require(T >= 0, name, ": T = ", T, " must not be negative");
  std::vector<unsigned char> allowed(static_cast<std::size_t>(count({T, T})));
  for (std::int64_t i = 0; i < T; ++i)
    for (std::int64_t j = 0; j < T; ++j) allowed[static_cast<std::size_t>(i * T + j)] = sees(i, j);
  return tensor(allowed, {T, T});
}

}  // namespace

Tensor causal_mask(std::int64_t T) {
  return mask("causal_mask", T, [](std::int64_t i, std::int64_t j) { return j <= i; });
}

Tensor reverse_mask(std::int64_t T) {
  return mask("reverse_mask", T, [](std::int64_t i, std::int64_t j) { return j >= i; });
}

Tensor no_mask(std::int64_t T) {
  return mask("no_mask", T, [](std::int64_t, std::int64_t) { return true; });
}

Tensor window_mask(std::int64_t T, std::int64_t window) {
  require(window >= 1, "window_mask: window = ", window, " must be at least 1");
  return mask("window_mask", T, [=](std::int64_t i, std::int64_t j) { return j <= i && i - j < window; });
}

Tensor padding_mask(const std::vector<std::int64_t>& lengths, std::int64_t T, Side padded) {
  const std::int64_t batch = std::ssize(lengths);
  std::vector<unsigned char> real(static_cast<std::size_t>(count({batch, T})));
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t length = lengths[static_cast<std::size_t>(b)];
    require(length >= 0 && length <= T, "padding_mask: length ", length, " must be between 0 and T = ", T);
    std::fill_n(real.begin() + b * T + (padded == Side::left ? T - length : 0), length, 1);
  }
  return tensor(real, {batch, 1, T});
}

Tensor both(const Tensor& a, const Tensor& b) {
  return detail::boolean_mask("both", a) > !detail::boolean_mask("both", b);
}

namespace {

template <class T>
void check_zeros_and_ones(const char* op, const Tensor& mask) {
  for (const T m : mask.values<T>()) require(m == 0 || m == 1, op, ": the mask holds ", m, ", not 0 or 1");
}

}  // namespace

Tensor detail::boolean_mask(const char* op, const Tensor& mask) {
  require_value(op, mask);
  if (mask.dtype() == Dtype::boolean) return mask;
  require(is_floating(mask.dtype()), op, ": needs a mask of booleans or of floats 0 and 1, not ", mask.dtype());
  if (mask.dtype() == Dtype::float32) check_zeros_and_ones<float>(op, mask);
  else check_zeros_and_ones<double>(op, mask);
  return mask != 0.0;
}

Tensor alibi_bias(std::int64_t heads, std::int64_t T, Dtype dtype) {
  require(heads >= 1 && T >= 0, "alibi_bias: heads = ", heads, ", T = ", T, ": needs at least one head and T >= 0");
  return alibi_bias(heads, T, T, dtype);
}

Tensor alibi_bias(std::int64_t heads, std::int64_t Tq, std::int64_t Tk, Dtype dtype) {
  require(heads >= 1 && Tq >= 0 && Tq <= Tk, "alibi_bias: heads = ", heads, ", Tq = ", Tq, ", Tk = ", Tk,
          ": needs at least one head and 0 <= Tq <= Tk");
  std::int64_t power = 1;
  while (power * 2 <= heads) power *= 2;
  std::vector<double> bias;
  bias.reserve(static_cast<std::size_t>(count({heads, Tq, Tk})));
  for (std::int64_t h = 0; h < heads; ++h) {
    const double step = h < power ? double(h + 1) / double(power) : (double(h - power) + 0.5) / double(power);
    const double slope = std::exp2(-8.0 * step);
    for (std::int64_t i = Tk - Tq; i < Tk; ++i)
      for (std::int64_t j = 0; j < Tk; ++j) bias.push_back(-slope * double(std::abs(i - j)));
  }
  return tensor(bias, {heads, Tq, Tk}).to(dtype);
}

}  // namespace surgeon
