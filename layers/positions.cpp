#include "layers/positions.hpp"

#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "framework/errors.hpp"

namespace surgeon {

LearnedPositions::LearnedPositions(std::int64_t places, std::int64_t d_model, Rng& rng, Dtype dtype) {
  require(places >= 1 && d_model >= 1, "LearnedPositions: places = ", places, ", d_model = ", d_model,
          ": both must be at least 1");
  weight = randn({places, d_model}, rng, dtype);
}

Tensor LearnedPositions::operator()(const Tensor& x, std::int64_t first) const {
  require_value("LearnedPositions", x);
  require(x.rank() >= 2 && x.shape(-1) == weight.shape(1) && x.shape(-2) <= weight.shape(0), "LearnedPositions: x ",
          x.shape(), " does not fit the weight ", weight.shape());
  const std::int64_t T = x.shape(-2);
  require(first >= 0 && first <= weight.shape(0) - T, "LearnedPositions: positions ", first, " to ", first + T - 1,
          " are not all within the ", weight.shape(0), " learned ones");
  return x + slice(weight, 0, first, first + T);
}

Parameters LearnedPositions::parameters() const { return {{"weight", weight}}; }

namespace {

struct Angles { Tensor sines, cosines; };   // [places, pairs]

Angles angles(const std::vector<std::int64_t>& places, std::int64_t pairs, double d, double base, Dtype dtype) {
  std::vector<double> sines, cosines;
  sines.reserve(places.size() * static_cast<std::size_t>(pairs));
  cosines.reserve(sines.capacity());
  for (const std::int64_t t : places)
    for (std::int64_t i = 0; i < pairs; ++i) {
      const double angle = double(t) * std::pow(base, -2.0 * double(i) / d);
      sines.push_back(std::sin(angle));
      cosines.push_back(std::cos(angle));
    }
  const Shape shape{std::ssize(places), pairs};
  return {tensor(sines, shape).to(dtype), tensor(cosines, shape).to(dtype)};
}

std::vector<std::int64_t> places_from(std::int64_t first, std::int64_t T) {
  std::vector<std::int64_t> places(static_cast<std::size_t>(T));
  std::iota(places.begin(), places.end(), first);
  return places;
}

}  // namespace

Tensor sinusoidal_positions(std::int64_t T, std::int64_t d_model, Dtype dtype, std::int64_t first) {
  require(T >= 0 && d_model >= 1, "sinusoidal_positions: T = ", T, ", d_model = ", d_model,
          ": needs T >= 0 and d_model >= 1");
  NoRecord pause;
  const std::int64_t pairs = (d_model + 1) / 2;
  const auto [sines, cosines] = angles(places_from(first, T), pairs, double(d_model), 10000.0, dtype);
  return slice(reshape(stack({sines, cosines}, -1), {T, 2 * pairs}), 1, 0, d_model);
}

namespace {

void check_rotary(const Tensor& x, int axis, std::int64_t width, const RotaryOptions& options) {
  require(axis < x.rank() - 1 && width % 2 == 0 && width >= 0 && width <= x.shape(-1), "rotary: x ", x.shape(),
          options.width == 0 ? ": the last axis must have an even size"
                             : ": the width must be even and at most the size of the last axis, not ",
          options.width == 0 ? "" : std::to_string(width));
  require(options.base > 0.0, "rotary: base = ", options.base, " must be positive");
  if (options.positions.empty()) return;
  const Shape &shape = options.positions.shape(), per_token{x.shape(axis)}, per_batch{x.shape(0), x.shape(axis)};
  require(options.positions.dtype() == Dtype::int64 && (shape == per_token || (axis > 0 && shape == per_batch)),
          "rotary: positions ", options.positions.dtype(), " ", shape, " must be int64 ", per_token, " or ", per_batch,
          " for x ", x.shape());
}

}  // namespace

Tensor rotary(const Tensor& x, const RotaryOptions& options) {
  require_value("rotary", x);
  const int axis = checked_axis("rotary", options.axis_of_places, x.rank());
  const std::int64_t d = x.shape(-1), width = options.width == 0 ? d : options.width, half = width / 2;
  check_rotary(x, axis, width, options);

  std::vector<std::int64_t> places = places_from(options.first, options.positions.empty() ? x.shape(axis) : 0);
  if (options.positions.defined()) {
    const auto given = options.positions.values<std::int64_t>();
    places.assign(given.begin(), given.end());
  }
  Shape lying(static_cast<std::size_t>(x.rank()), 1);   // [1 or B, ..., T, ..., half]
  lying.back() = half;
  lying[static_cast<std::size_t>(axis)] = x.shape(axis);
  if (options.positions.rank() == 2) lying.front() = x.shape(0);
  const Angles turn = angles(places, half, double(width), options.base, x.dtype());
  const Tensor sines = reshape(turn.sines, lying), cosines = reshape(turn.cosines, lying);

  const bool halves = options.pairs == RotaryPairs::halves;
  const Tensor a = halves ? slice(x, -1, 0, half) : slice(x, -1, 0, width, 2);
  const Tensor b = halves ? slice(x, -1, half, width) : slice(x, -1, 1, width, 2);
  const Tensor turned_a = a * cosines - b * sines, turned_b = b * cosines + a * sines;
  if (halves && width == d) return concat({turned_a, turned_b}, -1);
  Shape front = x.shape();
  front.back() = width;
  const Tensor turned = halves ? concat({turned_a, turned_b}, -1) : reshape(stack({turned_a, turned_b}, -1), front);
  return width == d ? turned : concat({turned, slice(x, -1, width)}, -1);
}

}  // namespace surgeon
