// The bridge to xtensor: views without a copy, tensors from expressions, and an op made of both.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "framework/framework.hpp"
#include "framework/xtensor.hpp"

using namespace surgeon;

namespace {

// The example of framework/xtensor.hpp.
Tensor atan(const Tensor& x) {
  Tensor y = x.dtype() == Dtype::float32 ? from_xtensor(xt::atan(view<float>(x)))
                                         : from_xtensor(xt::atan(view<double>(x)));
  return record("atan", {x}, std::move(y), [](const Ins& in, Out, Grad g) -> Grads {
    return {g / (1.0 + in[0] * in[0])};
  });
}

template <class T> std::vector<T> numbers(const Tensor& x) {
  const auto values = x.values<T>();
  return {values.begin(), values.end()};
}

template <class Made> concept CanView = requires(Made made) { view<float>(std::forward<Made>(made)); };
static_assert(CanView<const Tensor&> && CanView<Tensor&> && !CanView<Tensor>);   // a temporary's numbers would be gone

}  // namespace

TEST_SUITE("xtensor") {

TEST_CASE("the example op: its value is xtensor's, its derivatives agree with differences") {
  Rng rng(1);
  const Tensor x = randn({2, 3}, rng, Dtype::float64);
  const Tensor y = atan(x);
  for (std::int64_t i : {0, 1})
    for (std::int64_t j : {0, 1, 2}) CHECK(y.at({i, j}) == doctest::Approx(std::atan(x.at({i, j}))).epsilon(1e-14));
  const GradcheckResult result = gradcheck([](const auto& in) { return atan(in[0]); }, {x}, {.order = 3});
  CHECK_MESSAGE(result.passed, result.message);
  CHECK(atan(x.to(Dtype::float32)).dtype() == Dtype::float32);
}

TEST_CASE("view: the tensor's own numbers, its shape, and no copy") {
  const Tensor x = tensor({1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, {2, 3});
  const auto v = view<double>(x);
  CHECK(v.data() == x.values<double>().data());
  CHECK(v.dimension() == 2);
  CHECK(v(1, 0) == 4.0);
  CHECK(xt::sum(v)() == 21.0);
  static_assert(std::is_const_v<std::remove_reference_t<decltype(v(0, 0))>>);
  const Tensor scalar = full({}, 3.0), nothing = zeros({0, 3});
  CHECK(view<float>(scalar)() == 3.f);
  CHECK(view<float>(nothing).shape()[1] == 3);
  CHECK(view<float>(nothing).size() == 0);
}

TEST_CASE("view: another type than the dtype's is refused") {
  const Tensor x = ones({2});
  CHECK_THROWS_WITH_AS(view<double>(x), "values: asked for float64, but the tensor is float32", std::invalid_argument);
}

TEST_CASE("from_xtensor: shapes and numbers of lazy, broadcast and transposed expressions, in rows") {
  const Tensor x = tensor({1.f, 2.f, 3.f, 4.f, 5.f, 6.f}, {2, 3}), row = tensor({10.f, 20.f, 30.f}, {3});
  const Tensor y = from_xtensor(view<float>(x) + view<float>(row));
  CHECK(y.shape() == Shape{2, 3});
  CHECK(numbers<float>(y) == std::vector<float>{11, 22, 33, 14, 25, 36});
  const auto v = view<float>(x);
  const Tensor t = from_xtensor(xt::transpose(v));
  CHECK(t.shape() == Shape{3, 2});
  CHECK(numbers<float>(t) == std::vector<float>{1, 4, 2, 5, 3, 6});
  const Tensor total = from_xtensor(xt::sum(v));
  CHECK(total.shape() == Shape{});
  CHECK(total.item() == 21);
  const xt::xarray<double, xt::layout_type::column_major> columns = {{1, 2, 3}, {4, 5, 6}};
  CHECK(numbers<double>(from_xtensor(columns)) == std::vector<double>{1, 2, 3, 4, 5, 6});
  CHECK(from_xtensor(xt::xarray<double>::from_shape({0, 4})).shape() == Shape{0, 4});
}

TEST_CASE("from_xtensor: float32, float64, int64 and boolean by the expression's type") {
  const xt::xarray<int> ints = {1, -2, 3};
  CHECK(numbers<std::int64_t>(from_xtensor(ints)) == std::vector<std::int64_t>{1, -2, 3});
  CHECK(from_xtensor(xt::xarray<std::uint8_t>{255}).item() == 255);
  CHECK(from_xtensor(xt::xarray<float>{0.5f}).dtype() == Dtype::float32);
  CHECK(from_xtensor(xt::xarray<double>{0.5}).dtype() == Dtype::float64);
  CHECK(from_xtensor(xt::xarray<bool>{true, false}).dtype() == Dtype::boolean);
  CHECK(numbers<bool>(from_xtensor(ints > 0)) == std::vector<bool>{true, false, true});
  const xt::xarray<std::uint64_t> large = {std::numeric_limits<std::uint64_t>::max()};
  CHECK_THROWS_WITH_AS(from_xtensor(large), "from_xtensor: 18446744073709551615 does not fit into int64",
                       std::invalid_argument);
}

TEST_CASE("from_xtensor: a tensor of its own, outside any graph") {
  xt::xarray<double> a = {1, 2};
  const Tensor x = from_xtensor(a);
  a(0) = 9;
  CHECK(x.at({0}) == 1.0);
  const Tensor source = ones({2}, Dtype::float64);
  CHECK_THROWS_AS(grad(sum(from_xtensor(view<double>(source) * 2.0)), {source}), std::invalid_argument);
}

}
