// Products beyond what BLAS can count to, with its limit lowered: the same numbers, or an error.
#include <doctest/doctest.h>

#include <array>
#include <stdexcept>

#include "framework/framework.hpp"
#include "framework/kernels/gemm.hpp"
#include "framework/linalg.hpp"
#include "framework/machine.hpp"

using namespace surgeon;

namespace {

// While one lives, BLAS is said to count no further than this.
class LowLimit {
 public:
  explicit LowLimit(std::int64_t most) : before_(kernels::largest_blas_size.exchange(most)) {}
  ~LowLimit() { kernels::largest_blas_size = before_; }

 private:
  std::int64_t before_;
};

struct Results {
  Tensor y, dx, dw, db;
};

Results linear_and_gradients(const Tensor& x, const Tensor& w, const Tensor& b, const Tensor& g) {
  const Tensor y = linear(x, w, b);
  const auto [dx, dw, db] = grad(y, {x, w, b}, {.cotangent = g});
  return {y, dx, dw, db};
}

double distance(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  return max(abs(a - b)).item();
}

}  // namespace

TEST_SUITE("products") {
  TEST_CASE("linear with more rows than BLAS can count gives the same numbers, and so do its gradients") {
    Rng rng(1);
    const Tensor x = randn({1000, 5}, rng, Dtype::float64), w = randn({7, 5}, rng, Dtype::float64);
    const Tensor b = randn({7}, rng, Dtype::float64), g = randn({1000, 7}, rng, Dtype::float64);
    for (const int threads : {1, 3}) {
      const ThreadsGuard guard(threads);
      const Results expected = linear_and_gradients(x, w, b, g);
      const LowLimit limit(64);
      const Results found = linear_and_gradients(x, w, b, g);
      CHECK(distance(found.y, expected.y) == 0.0);
      CHECK(distance(found.dx, expected.dx) == 0.0);
      CHECK(distance(found.dw, expected.dw) < 1e-12);
      CHECK(distance(found.db, expected.db) == 0.0);
    }
  }

  TEST_CASE("matmul: rows, columns and inner sizes beyond the limit, transposed or not") {
    Rng rng(2);
    const LowLimit limit(8);
    const std::array<std::int64_t, 3> sizes[] = {{30, 1, 8}, {8, 1, 30}, {1, 30, 8}, {1, 1, 30}};   // m, n, k
    for (const bool transpose_a : {false, true})
      for (const bool transpose_b : {false, true})
        for (const auto& [m, n, k] : sizes) {
          const Tensor a = randn({m, k}, rng, Dtype::float64), b = randn({k, n}, rng, Dtype::float64);
          const Tensor y = sum(reshape(a, {m, k, 1}) * reshape(b, {1, k, n}), 1);
          const bool a_fits = (transpose_a ? m : k) <= 8 || (transpose_a ? k : m) == 1;
          const bool b_fits = (transpose_b ? k : n) <= 8 || (transpose_b ? n : k) == 1;
          const Tensor A = transpose_a ? transpose(a, 0, 1) : a, B = transpose_b ? transpose(b, 0, 1) : b;
          const auto multiply = [&] {
            return matmul(A, B, {.transpose_a = transpose_a, .transpose_b = transpose_b});
          };
          if (a_fits && b_fits) CHECK(distance(multiply(), y) < 1e-12);
          else CHECK_THROWS_AS(multiply(), std::length_error);
        }
  }

  TEST_CASE("a row that BLAS cannot step over is refused with both numbers") {
    const LowLimit limit(8);
    CHECK_THROWS_WITH_AS(matmul(ones({2, 9}), ones({9, 2})), "matmul: a row of 9 numbers is longer than the 8 that BLAS "
                         "can take", std::length_error);
    CHECK_THROWS_WITH_AS(linear(ones({2, 3}), ones({9, 3})), "linear: a row of 9 numbers is longer than the 8 that BLAS "
                         "can take", std::length_error);
  }

  TEST_CASE("LAPACK's callers refuse what it cannot count") {
    const LowLimit limit(8);
    CHECK_THROWS_WITH_AS(linalg::singular_values(ones({2, 9})), "singular_values: [2, 9]: LAPACK counts to 8 only",
                         std::length_error);
    CHECK_THROWS_WITH_AS(linalg::solve(eye(2), ones({2, 9})), "solve: [2, 9]: LAPACK counts to 8 only",
                         std::length_error);
    for (const auto& op : {linalg::inverse, linalg::cholesky}) CHECK_THROWS_AS(op(eye(9)), std::length_error);
    CHECK_THROWS_AS(linalg::svd(ones({9, 2})), std::length_error);
    CHECK_THROWS_AS(linalg::slogdet(eye(9)), std::length_error);
    CHECK_THROWS_AS(linalg::eigh(eye(9)), std::length_error);
  }
}
