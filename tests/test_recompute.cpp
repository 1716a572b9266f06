// recompute: the same value and gradients, computed again instead of kept.
#include <doctest/doctest.h>

#include <algorithm>
#include <stdexcept>

#include "framework/framework.hpp"

using namespace surgeon;

namespace {

bool bit_equal(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::ranges::equal(a.values<double>(), b.values<double>());
}

Tensor normal(const Shape& shape, std::uint64_t seed) {
  Rng rng(seed);
  return randn(shape, rng, Dtype::float64);
}

}  // namespace

TEST_SUITE("recompute") {
  TEST_CASE("value and gradients are those of the function itself, bit for bit") {
    const Tensor a = normal({3, 4}, 1), b = normal({4, 2}, 2);
    const Function f = [](const std::vector<Tensor>& in) { return tanh(matmul(in[0], in[1])); };
    const Tensor plain = f({a, b}), again = recompute(f, {a, b});
    CHECK(bit_equal(plain, again));
    const Tensor g = normal({3, 2}, 3);
    const auto [da, db] = grad(plain, {a, b}, {.cotangent = g});
    const auto [ca, cb] = grad(again, {a, b}, {.cotangent = g});
    CHECK(bit_equal(da, ca));
    CHECK(bit_equal(db, cb));
  }

  TEST_CASE("what f uses without being given it gets its gradient too") {
    const Tensor x = normal({3, 4}, 4), W = normal({2, 4}, 5);
    const Tensor V = W * 2.0;   // made from W: each must count once
    const Function f = [&](const std::vector<Tensor>& in) { return sum(tanh(linear(in[0], W)) * linear(in[0], V)); };
    const auto [dx, dW] = grad(f({x}), {x, W});
    const auto [cx, cW] = grad(recompute(f, {x}), {x, W});
    CHECK(bit_equal(dx, cx));
    for (std::int64_t i = 0; i < W.size(); ++i)
      CHECK(cW.values<double>()[std::size_t(i)] == doctest::Approx(dW.values<double>()[std::size_t(i)]).epsilon(1e-13));
  }

  TEST_CASE("one tensor given twice, and an input that leads to another") {
    const Tensor x = normal({3}, 6), y = exp(x);
    const Function f = [](const std::vector<Tensor>& in) { return sum(in[0] * in[1] * in[2]); };
    const auto [dx] = grad(f({x, x, y}), {x});
    const auto [cx] = grad(recompute(f, {x, x, y}), {x});
    for (std::size_t i = 0; i < 3; ++i) CHECK(cx.values<double>()[i] == doctest::Approx(dx.values<double>()[i]).epsilon(1e-14));
  }

  TEST_CASE("it can be differentiated twice") {
    const Tensor x = normal({4}, 7);
    const auto result = gradcheck(
        [](const std::vector<Tensor>& in) {
          return recompute([](const std::vector<Tensor>& v) { return sin(v[0]) * exp(v[0]); }, in);
        },
        {x}, {.order = 2});
    CHECK_MESSAGE(result, result.message);
  }

  TEST_CASE("nothing inside is kept: the graph holds one step") {
    const Tensor x = normal({4}, 8);
    const Tensor y = recompute([](const std::vector<Tensor>& in) { return sum(exp(in[0]) * 3.0); }, {x});
    CHECK(graph_text(y, {.ranges = false, .gradients = false}) ==
          "%0  given         [4] float64\n%1  recompute %0  [] float64\n");
  }

  TEST_CASE("with recording off it is the function") {
    const Tensor x = normal({4}, 9);
    const NoRecord pause;
    int runs = 0;
    recompute([&](const std::vector<Tensor>& in) { return ++runs, in[0]; }, {x});
    CHECK(runs == 1);
  }

  TEST_CASE("an exception inside f comes through and leaves recording as it was") {
    const Tensor x = normal({4}, 10);
    CHECK_THROWS_AS(recompute([](const std::vector<Tensor>&) -> Tensor { throw std::runtime_error("no"); }, {x}),
                    std::runtime_error);
    int runs = 0;
    const Tensor y = recompute(
        [&](const std::vector<Tensor>& in) {
          if (++runs == 2) throw std::runtime_error("the second time");
          return sum(in[0] * in[0]);
        },
        {x});
    CHECK_THROWS_WITH((grad(y, {x})), "the second time");
    CHECK(recording());
  }
TEST_CASE("recompute: a function that draws from an Rng outside of it is found out") {
  Rng rng(1);
  const Tensor x = ones({8});
  const Tensor y = recompute([&](const std::vector<Tensor>& in) { return sum(dropout(in[0], 0.5, rng)); }, {x});
  CHECK_THROWS_WITH_AS(grad(y, {x}), doctest::Contains("gave other numbers the second time"), std::invalid_argument);
}

}
