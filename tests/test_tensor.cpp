// Tensors: making, reading, assigning, converting; and the values of the ops that move or compare numbers.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "framework/framework.hpp"

using namespace surgeon;

namespace {

template <class T>
void check_values(const Tensor& x, const Shape& shape, const std::vector<T>& values) {
  CHECK(x.shape() == shape);
  const auto found = x.values<T>();
  CHECK(std::vector<T>(found.begin(), found.end()) == values);
}

const Tensor& grid() {   // [[0, 1, 2], [3, 4, 5]]
  static const Tensor x = reshape(arange(6, Dtype::float64), {2, 3});
  return x;
}

}  // namespace

TEST_SUITE("tensor") {

TEST_CASE("tensor: numbers keep their order and take the dtype they were written in") {
  check_values<double>(tensor({1.0, 2.0}, {2}), {2}, {1.0, 2.0});
  check_values<float>(tensor({1.f, 2.f}, {1, 2}), {1, 2}, {1.f, 2.f});
  check_values<std::int64_t>(tensor({1, 2, 3}, {3}), {3}, {1, 2, 3});
  check_values<bool>(tensor({true, false}, {2}), {2}, {true, false});
  check_values<bool>(tensor(std::vector<unsigned char>{0, 7, 1}, {3}), {3}, {false, true, true});
  CHECK(tensor({5.0}, {}).rank() == 0);
  CHECK(tensor({5.0}, {}).item() == 5.0);
}

TEST_CASE("tensor: an empty tensor has no values, a tensor of size 0 has none either but a shape") {
  CHECK(Tensor().empty());
  CHECK(Tensor().size() == 0);
  CHECK(Tensor().shape() == Shape{});
  const Tensor nothing = zeros({0, 3});
  CHECK(nothing.defined());
  CHECK(nothing.size() == 0);
  CHECK(nothing.shape(-1) == 3);
  CHECK(nothing.values<float>().empty());
}

TEST_CASE("tensor: at() counts from the end when negative, in every dtype") {
  CHECK(grid().at({1, 2}) == 5.0);
  CHECK(grid().at({-1, -3}) == 3.0);
  CHECK(tensor({7, 8}, {2}).at({-1}) == 8.0);
  CHECK(tensor({true, false}, {2}).at({0}) == 1.0);
}

TEST_CASE("tensor: makers") {
  check_values<float>(full({2}, 1.5), {2}, {1.5f, 1.5f});
  check_values<float>(ones({2}), {2}, {1.f, 1.f});
  check_values<double>(zeros_like(grid()), {2, 3}, std::vector<double>(6, 0.0));
  check_values<std::int64_t>(ones_like(tensor({4, 5}, {2})), {2}, {1, 1});
  check_values<std::int64_t>(arange(3, Dtype::int64), {3}, {0, 1, 2});
  check_values<double>(arange(1.0, 0.0, -0.25, Dtype::float64), {4}, {1.0, 0.75, 0.5, 0.25});
  check_values<float>(arange(3.0, 1.0, 1.0), {0}, {});
  check_values<float>(eye(2), {2, 2}, {1.f, 0.f, 0.f, 1.f});
  CHECK(eye(0).size() == 0);
}

TEST_CASE("tensor: assign overwrites, counts a version, and leaves what shared the numbers alone") {
  for (std::int64_t n : {2, 1000}) {   // inside the node, and in a buffer of its own
    Tensor x = zeros({n});
    const Tensor before = x.detach(), shaped = reshape(x, {1, n});
    x.assign(ones({n}));
    CHECK(x.version() == 1);
    CHECK(x.at({n - 1}) == 1.0);
    CHECK(before.at({n - 1}) == 0.0);
    CHECK(shaped.at({0, 0}) == 0.0);
    x.assign(x);
    CHECK(x.at({0}) == 1.0);
    const Tensor handle = x;   // the same object under another name
    x.assign(zeros({n}));
    CHECK(handle.at({0}) == 0.0);
    CHECK(handle.same(x));
    CHECK_FALSE(before.same(x));
  }
}

TEST_CASE("tensor: to() converts every dtype to every other; the same dtype is the same tensor") {
  const Tensor x = tensor({0.0, 1.0, 2.75, -3.0}, {4});
  CHECK(x.to(Dtype::float64).same(x));
  check_values<std::int64_t>(x.to(Dtype::int64), {4}, {0, 1, 2, -3});
  check_values<bool>(x.to(Dtype::boolean), {4}, {false, true, true, true});
  check_values<float>(x.to(Dtype::float32), {4}, {0.f, 1.f, 2.75f, -3.f});
  check_values<double>(tensor({true, false}, {2}).to(Dtype::float64), {2}, {1.0, 0.0});
  check_values<float>(tensor({3, -4}, {2}).to(Dtype::float32), {2}, {3.f, -4.f});
}

TEST_CASE("tensor: comparisons are elementwise and broadcast; nan is unequal to everything, itself too") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor a = tensor({1.0, 2.0, nan}, {3}), b = tensor({2.0}, {1});
  check_values<bool>(a < b, {3}, {true, false, false});
  check_values<bool>(a <= b, {3}, {true, true, false});
  check_values<bool>(a > b, {3}, {false, false, false});
  check_values<bool>(a >= b, {3}, {false, true, false});
  check_values<bool>(a == b, {3}, {false, true, false});
  check_values<bool>(a != b, {3}, {true, false, true});
  check_values<bool>(a < 1.5, {3}, {true, false, false});
  check_values<bool>(a <= 2.0, {3}, {true, true, false});
  check_values<bool>(a > 1.0, {3}, {false, true, false});
  check_values<bool>(a >= 1.0, {3}, {true, true, false});
  check_values<bool>(a == 2.0, {3}, {false, true, false});
  check_values<bool>(a != 2.0, {3}, {true, false, true});
  check_values<bool>(1.5 > a, {3}, {true, false, false});
  check_values<bool>(2.0 >= a, {3}, {true, true, false});
  check_values<bool>(1.0 < a, {3}, {false, true, false});
  check_values<bool>(1.0 <= a, {3}, {true, true, false});
  check_values<bool>(2.0 == a, {3}, {false, true, false});
  check_values<bool>(2.0 != a, {3}, {true, false, true});
  check_values<bool>(isnan(a), {3}, {false, false, true});
  check_values<bool>(!isnan(a), {3}, {true, true, false});
  check_values<bool>(a == a, {3}, {true, true, false});
  check_values<bool>(tensor({1, 2}, {2}) < tensor({2, 2}, {2}), {2}, {true, false});
  check_values<bool>(tensor({true, false}, {2}) == tensor({true, true}, {2}), {2}, {true, false});
  check_values<bool>(tensor({1, 2}, {2}) == 2.0, {2}, {false, true});
}

TEST_CASE("tensor: integers add, multiply, negate and compare exactly past 2^53") {
  const std::int64_t large = (std::int64_t{1} << 60) + 1;
  const Tensor x = tensor({large, std::int64_t{2}}, {2});
  check_values<std::int64_t>(x + x, {2}, {2 * large, 4});
  check_values<std::int64_t>(x - 1.0, {2}, {large - 1, 1});
  check_values<std::int64_t>(x * tensor({1, -3}, {2}), {2}, {large, -6});
  check_values<std::int64_t>(-x, {2}, {-large, -2});
  check_values<std::int64_t>(maximum(x, tensor({3, 3}, {2})), {2}, {large, 3});
  check_values<std::int64_t>(sum(x), {}, {large + 2});
  check_values<std::int64_t>(sum(tensor({true, true, false}, {3})), {}, {2});
  check_values<std::int64_t>(max(x, 0), {}, {large});
  check_values<std::int64_t>(min(x, 0), {}, {2});
  check_values<std::int64_t>(cumsum(x, 0), {2}, {large, large + 2});
}

TEST_CASE("tensor: shape ops move numbers where NumPy moves them") {
  const Tensor& x = grid();
  check_values<double>(transpose(x, 0, 1), {3, 2}, {0, 3, 1, 4, 2, 5});
  check_values<double>(permute(reshape(x, {1, 2, 3}), {2, 0, 1}), {3, 1, 2}, {0, 3, 1, 4, 2, 5});
  check_values<double>(reshape(x, {3, -1}), {3, 2}, {0, 1, 2, 3, 4, 5});
  check_values<double>(concat({x, slice(x, 0, 0, 1)}, 0), {3, 3}, {0, 1, 2, 3, 4, 5, 0, 1, 2});
  check_values<double>(concat({x, x}, -1), {2, 6}, {0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5});
  check_values<double>(stack({x, x}, 1), {2, 2, 3}, {0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5});
  check_values<double>(broadcast_to(slice(x, 1, 1, 2), {2, 2}), {2, 2}, {1, 1, 4, 4});
  check_values<double>(tril(x), {2, 3}, {0, 0, 0, 3, 4, 0});
  check_values<double>(triu(x, 1), {2, 3}, {0, 1, 2, 0, 0, 5});
  check_values<bool>(transpose(x > 2.0, 0, 1), {3, 2}, {false, true, false, true, false, true});
  check_values<std::int64_t>(slice(x.to(Dtype::int64), 1, -1, -to_end, -1), {2, 3}, {2, 1, 0, 5, 4, 3});
}

TEST_CASE("tensor: slice is Python's x[start:stop:step]") {
  const Tensor x = arange(5, Dtype::float64);
  check_values<double>(slice(x, 0, 1, 4), {3}, {1, 2, 3});
  check_values<double>(slice(x, 0, -2), {2}, {3, 4});
  check_values<double>(slice(x, 0, -100, 100), {5}, {0, 1, 2, 3, 4});
  check_values<double>(slice(x, 0, 0, to_end, 2), {3}, {0, 2, 4});
  check_values<double>(slice(x, 0, 4, 0, -2), {2}, {4, 2});
  check_values<double>(slice(x, 0, 100, -to_end, -3), {2}, {4, 1});
  check_values<double>(slice(x, 0, -1, -4, -1), {3}, {4, 3, 2});
  check_values<double>(slice(x, 0, 3, 3), {0}, {});
  check_values<double>(slice(x, 0, 4, 1), {0}, {});
  check_values<double>(slice(x, 0, 7), {0}, {});
  check_values<double>(slice(x, 0, 2, to_end, to_end), {1}, {2});
}

TEST_CASE("tensor: indices pick and add where they point") {
  const Tensor& x = grid();
  check_values<double>(gather(x, 1, tensor({2, 0}, {2, 1})), {2, 1}, {2, 3});
  check_values<double>(gather(x, 0, tensor({1, 0, 1}, {1, 3})), {1, 3}, {3, 1, 5});
  check_values<double>(scatter_add({2, 3}, 1, tensor({0, 0}, {1, 2}), tensor({2.0, 5.0}, {1, 2})), {2, 3},
                       {7, 0, 0, 0, 0, 0});
  check_values<double>(embedding(x, tensor({1, 0, 1}, {3})), {3, 3}, {3, 4, 5, 0, 1, 2, 3, 4, 5});
  check_values<float>(one_hot(tensor({1, 0}, {2}), 3), {2, 3}, {0, 1, 0, 1, 0, 0});
  check_values<std::int64_t>(argmax(tensor({1.0, 3.0, 3.0, 2.0}, {2, 2}), 1), {2}, {1, 0});
  check_values<std::int64_t>(argmax(tensor({1.0, 3.0, 3.0, 2.0}, {2, 2}), 0), {2}, {1, 0});
}

// sum(x, {-1, true}) would mean axes -1 and 1 to a compiler that lets it through.
template <class T> concept bool_among_axes = requires(T x) { sum(x, {-1, true}); };
static_assert(!bool_among_axes<Tensor>);

TEST_CASE("tensor: reductions take an axis, several in braces, or named options") {
  const Tensor& x = grid();
  check_values<double>(sum(x, -1), {2}, {3, 12});
  check_values<double>(sum(x, {0, 1}), {}, {15});
  check_values<double>(sum(x, {}), {}, {15});
  check_values<double>(sum(x, {.axes = {0}}), {3}, {3, 5, 7});
  check_values<double>(sum(x, {.keepdims = true}), {1, 1}, {15});
  check_values<double>(max(x, {.axes = {1}, .keepdims = true}), {2, 1}, {2, 5});
  check_values<double>(mean(x, {1}), {2}, {1, 4});
  check_values<double>(min(x, 0), {3}, {0, 1, 2});
  check_values<double>(var(x, 1), {2}, {1, 1});
  check_values<double>(var(x, {.axes = {1}, .keepdims = true, .correction = 2}), {2, 1}, {2, 2});
  CHECK(logsumexp(zeros({2, 4}), {0, 1}).item() == doctest::Approx(std::log(8.0)));
}

TEST_CASE("tensor: a product over an inner size of 0 is zeros") {
  check_values<float>(matmul(ones({2, 0}), ones({0, 3})), {2, 3}, std::vector<float>(6, 0.f));
  check_values<float>(matmul(ones({2, 2, 0}), ones({2, 0, 1})), {2, 2, 1}, std::vector<float>(4, 0.f));
  check_values<float>(linear(ones({2, 0}), ones({3, 0}), full({3}, 4.0)), {2, 3}, std::vector<float>(6, 4.f));
  check_values<float>(linear(ones({2, 0}), ones({3, 0})), {2, 3}, std::vector<float>(6, 0.f));
  const Tensor a = ones({3, 0}), b = ones({0, 4});
  const auto [da, db] = grad(sum(matmul(a, b)), {a, b});
  CHECK(da.shape() == Shape{3, 0});
  CHECK(db.shape() == Shape{0, 4});
}

TEST_CASE("tensor: text") {
  CHECK(to_string(Shape{}) == "[]");
  CHECK(to_string(Shape{2, 3}) == "[2, 3]");
  CHECK(to_string(Dtype::float32) == "float32");
  CHECK(to_string(Dtype::boolean) == "boolean");
}

}  // TEST_SUITE
