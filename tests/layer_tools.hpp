// What tests of layers share: distances, names, tokens, and a model small enough for differences.
#pragma once

#include <doctest/doctest.h>

#include <string>

#include "layers/layers.hpp"

namespace surgeon::tests {

inline constexpr Dtype f64 = Dtype::float64;

inline double off(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  return a.size() == 0 ? 0.0 : max(abs(a - b)).item();
}

inline std::string names(const Parameters& parameters) {
  std::string all;
  for (const auto& [name, tensor] : parameters) all += name + to_string(tensor.shape()) + " ";
  return all;
}

inline Tensor tokens(const Shape& shape, std::int64_t vocabulary, std::uint64_t seed = 3) {
  Rng rng(seed);
  return randint(0, vocabulary, shape, rng);
}

inline TransformerConfig tiny() {
  TransformerConfig config{.vocabulary = 7, .context = 5, .layers = 2};
  config.block = {.d_model = 4, .heads = 2, .hidden = 6, .dtype = f64};
  return config;
}

// Parameters pushed off the places where a gradient would be 0 by chance: gains of 1, biases of 0.
inline void shake(const Parameters& parameters, double by = 0.3) {
  Rng rng(99);
  for (const auto& [name, value] : parameters) {
    Tensor parameter = value;
    parameter.assign((value + randn(value.shape(), rng, value.dtype()) * by).detach());
  }
}

}  // namespace surgeon::tests
