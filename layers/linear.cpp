#include "layers/linear.hpp"

#include <cmath>

#include "framework/errors.hpp"
#include "layers/collect.hpp"

namespace surgeon {

namespace {

Tensor uniform(const Shape& shape, double bound, Rng& rng, Dtype dtype) {
  NoRecord pause;   // a parameter is a leaf
  return rand(shape, rng, dtype) * (2.0 * bound) - bound;
}

}  // namespace

Linear::Linear(std::int64_t in, std::int64_t out, Rng& rng, Dtype dtype, bool with_bias) {
  require(in >= 1 && out >= 1, "Linear: in = ", in, ", out = ", out, ": both must be at least 1");
  const double bound = 1.0 / std::sqrt(double(in));
  weight = uniform({out, in}, bound, rng, dtype);
  if (with_bias) bias = uniform({out}, bound, rng, dtype);
}

Tensor Linear::operator()(const Tensor& x) const { return linear(x, weight, bias); }

Parameters Linear::parameters() const {
  return collect("weight", weight, "bias", bias);
}

}  // namespace surgeon
