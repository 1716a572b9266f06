#include "layers/initialise.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "framework/errors.hpp"

namespace surgeon {

namespace {

Tensor uniform(const Shape& shape, double standard_deviation, Rng& rng, Dtype dtype) {
  NoRecord pause;   // a parameter is a leaf
  const double bound = std::sqrt(3.0) * standard_deviation;
  return rand(shape, rng, dtype) * (2.0 * bound) - bound;
}

void check(const char* name, const Shape& shape) {
  require(shape.size() == 2 && count(shape) > 0, name, ": ", shape, " must be the shape of a weight, [out, in]");
}

double xavier(const char* name, const Shape& shape, const InitOptions& options) {
  check(name, shape);
  return options.gain * std::sqrt(2.0 / double(shape[0] + shape[1]));
}

double kaiming(const char* name, const Shape& shape, const InitOptions& options) {
  check(name, shape);
  const double gain = std::sqrt(2.0 / (1.0 + options.slope * options.slope));
  return gain / std::sqrt(double(shape[options.fan_out ? 0 : 1]));
}

}  // namespace

Tensor normal(const Shape& shape, double standard_deviation, Rng& rng, Dtype dtype) {
  NoRecord pause;
  return randn(shape, rng, dtype) * standard_deviation;
}
Tensor xavier_uniform(const Shape& shape, Rng& rng, const InitOptions& options) {
  return uniform(shape, xavier("xavier_uniform", shape, options), rng, options.dtype);
}
Tensor xavier_normal(const Shape& shape, Rng& rng, const InitOptions& options) {
  return normal(shape, xavier("xavier_normal", shape, options), rng, options.dtype);
}
Tensor kaiming_uniform(const Shape& shape, Rng& rng, const InitOptions& options) {
  return uniform(shape, kaiming("kaiming_uniform", shape, options), rng, options.dtype);
}
Tensor kaiming_normal(const Shape& shape, Rng& rng, const InitOptions& options) {
  return normal(shape, kaiming("kaiming_normal", shape, options), rng, options.dtype);
}

namespace {

bool ends_with(const std::string& name, const std::string& end) {
  return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
}

// "blocks.<i>." counted, for the residual stream that each block adds to twice.
double blocks_in(const Parameters& parameters) {
  std::set<std::string> prefixes;
  for (const auto& [name, value] : parameters) {
    const std::size_t at = name.find("blocks.");
    if (at != std::string::npos) prefixes.insert(name.substr(0, name.find('.', at + 7)));
  }
  return double(std::max<std::size_t>(prefixes.size(), 1));
}

}  // namespace

void initialise(const Parameters& parameters, Init rule, Rng& rng) {
  const double residual = 0.02 / std::sqrt(2.0 * blocks_in(parameters));
  for (const auto& [name, value] : parameters) {
    Tensor parameter = value;
    if (ends_with(name, "bias")) parameter.assign(zeros_like(value));
    if (value.rank() != 2) continue;
    const InitOptions options{.dtype = value.dtype()};
    const bool joins_residual = ends_with(name, "attention.W_o.weight") || ends_with(name, "linear2.weight");
    switch (rule) {
      case Init::gpt2:
        parameter.assign(normal(value.shape(), joins_residual ? residual : 0.02, rng, value.dtype()));
        break;
      case Init::xavier_uniform: parameter.assign(xavier_uniform(value.shape(), rng, options)); break;
      case Init::xavier_normal: parameter.assign(xavier_normal(value.shape(), rng, options)); break;
      case Init::kaiming_uniform: parameter.assign(kaiming_uniform(value.shape(), rng, options)); break;
      case Init::kaiming_normal: parameter.assign(kaiming_normal(value.shape(), rng, options)); break;
    }
  }
}

}  // namespace surgeon
