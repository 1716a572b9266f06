#include "layers/positions.hpp"

#include <cmath>
#include <vector>

#include "framework/errors.hpp"

namespace surgeon {


LearnedPositions::LearnedPositions(std::int64_t places, std::int64_t d_model, Rng& rng, Dtype dtype) {
  require(places >= 1 && d_model >= 1, "LearnedPositions: places = ", places, ", d_model = ", d_model,
          ": both must be at least 1");
  weight = randn({places, d_model}, rng, dtype);
}

Tensor LearnedPositions::operator()(const Tensor& x) const {
  require_value("LearnedPositions", x);
  require(x.rank() >= 2 && x.shape(-1) == weight.shape(1) && x.shape(-2) <= weight.shape(0), "LearnedPositions: x ",
          x.shape(), " does not fit the weight ", weight.shape());
  return x + slice(weight, 0, 0, x.shape(-2));
}

Parameters LearnedPositions::parameters() const { return {{"weight", weight}}; }

namespace {

struct Angles { Tensor sines, cosines; };   // [T, pairs]

Angles angles(std::int64_t T, std::int64_t pairs, double d, double base, Dtype dtype) {
  std::vector<double> sines, cosines;
  sines.reserve(static_cast<std::size_t>(T * pairs));
  cosines.reserve(static_cast<std::size_t>(T * pairs));
  for (std::int64_t t = 0; t < T; ++t)
    for (std::int64_t i = 0; i < pairs; ++i) {
      const double angle = double(t) * std::pow(base, -2.0 * double(i) / d);
      sines.push_back(std::sin(angle));
      cosines.push_back(std::cos(angle));
    }
  return {tensor(sines, {T, pairs}).to(dtype), tensor(cosines, {T, pairs}).to(dtype)};
}

}  // namespace

Tensor sinusoidal_positions(std::int64_t T, std::int64_t d_model, Dtype dtype) {
  require(T >= 0 && d_model >= 1, "sinusoidal_positions: T = ", T, ", d_model = ", d_model,
          ": needs T >= 0 and d_model >= 1");
  NoRecord pause;
  const std::int64_t pairs = (d_model + 1) / 2;
  const auto [sines, cosines] = angles(T, pairs, double(d_model), 10000.0, dtype);
  return slice(reshape(stack({sines, cosines}, -1), {T, 2 * pairs}), 1, 0, d_model);
}

Tensor rotary(const Tensor& x, double base, int axis_of_places) {
  require_value("rotary", x);
  const int axis = checked_axis("rotary", axis_of_places, x.rank());
  require(axis < x.rank() - 1 && x.shape(-1) % 2 == 0, "rotary: x ", x.shape(),
          ": the last axis must have an even size");
  require(base > 0.0, "rotary: base = ", base, " must be positive");
  const std::int64_t half = x.shape(-1) / 2;
  Shape lying(static_cast<std::size_t>(x.rank() - axis), 1);   // [T, 1, ..., half]
  lying.front() = x.shape(axis);
  lying.back() = half;
  const Angles turn = angles(x.shape(axis), half, double(x.shape(-1)), base, x.dtype());
  const Tensor sines = reshape(turn.sines, lying), cosines = reshape(turn.cosines, lying);
  const Tensor a = slice(x, -1, 0, half), b = slice(x, -1, half);
  return concat({a * cosines - b * sines, b * cosines + a * sines}, -1);
}

}  // namespace surgeon
