// Diagnostics against closed forms, and where naive formulas lose their digits.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "framework/diagnostics.hpp"
#include "framework/ops.hpp"
#include "framework/random.hpp"

using namespace surgeon;

namespace {

// ||diag(p) - p p^T|| by its definition, in long double.
double by_definition(const std::vector<double>& p) {
  long double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i)
    for (std::size_t j = 0; j < p.size(); ++j) {
      const long double entry = (i == j ? (long double)p[i] : 0) - (long double)p[i] * p[j];
      sum += entry * entry;
    }
  return double(std::sqrt(sum));
}

}  // namespace

TEST_SUITE("diagnostics") {

TEST_CASE("entropy: uniform is ln n, one-hot is exactly 0, and the notebook's 1e-9 makes that -1e-9") {
  const Tensor p = tensor({0.25, 0.25, 0.25, 0.25, 0.0, 1.0, 0.0, 0.0}, {2, 4});
  const std::vector<double> h = entropy(p);
  CHECK(h[0] == doctest::Approx(std::log(4.0)).epsilon(1e-14));
  CHECK(h[1] == 0.0);
  CHECK(entropy(p, 1e-9)[1] == doctest::Approx(-1e-9).epsilon(1e-6));
}

TEST_CASE("softmax_jacobian_norm: a uniform row has sqrt(n - 1) / n, a one-hot or dead row exactly 0") {
  for (std::int64_t n : {2, 7, 64})
    CHECK(softmax_jacobian_norm(full({1, n}, 1.0 / double(n), Dtype::float64))[0] ==
          doctest::Approx(std::sqrt(double(n - 1)) / double(n)).epsilon(1e-13));
  const std::vector<double> zero = softmax_jacobian_norm(tensor({0.0, 1.0, 0.0, 0.0}, {2, 2}));
  CHECK(zero[0] == 0.0);
  CHECK(zero[1] == 0.0);
}

TEST_CASE("softmax_jacobian_norm and _trace: random rows agree with the definition") {
  Rng rng(7);
  const Tensor p = softmax(3.0 * randn({50, 10}, rng, Dtype::float64));
  const std::vector<double> norms = softmax_jacobian_norm(p), traces = softmax_jacobian_trace(p);
  for (std::size_t r = 0; r < 50; ++r) {
    const auto first = p.values<double>().begin() + std::ptrdiff_t(10 * r);
    const std::vector<double> row(first, first + 10);
    long double squares = 0;
    for (double x : row) squares += (long double)x * x;
    CHECK(norms[r] == doctest::Approx(by_definition(row)).epsilon(1e-12));
    CHECK(traces[r] == doctest::Approx(double(1 - squares)).epsilon(1e-12));
  }
}

TEST_CASE("softmax_jacobian_norm: keeps its digits for rows that are almost one-hot") {
  // Scores 0 and -a: p = (1, e) with e = exp(-a), J = e [[1, -1], [-1, 1]], norm 2 e.
  for (double a : {20.0, 40.0, 100.0, 300.0, 600.0}) {
    const Tensor p = softmax(tensor({0.0, -a}, {1, 2}));
    CHECK(softmax_jacobian_norm(p)[0] / (2 * std::exp(-a)) == doctest::Approx(1.0).epsilon(1e-8));
    CHECK(softmax_jacobian_trace(p)[0] / (2 * std::exp(-a)) == doctest::Approx(1.0).epsilon(1e-8));
  }
}

TEST_CASE("norms and rows: Frobenius over all, per row, and rows that are exactly zero") {
  const Tensor x = tensor({3.f, 4.f, 0.f, -0.f, 1e-45f, 0.f}, {3, 2});
  CHECK(norm(x) == doctest::Approx(5.0));
  CHECK(row_norms(x)[0] == 5.0);
  CHECK(zero_rows(x) == doctest::Approx(1.0 / 3));   // a denormal is not zero
  CHECK(norm(full({2}, 1e25)) > 1e25);               // float32 squares would overflow
}

TEST_CASE("concentration: equal values and one that has everything") {
  const std::vector<double> equal(10, 2.0), one = {0, 0, 0, 8};
  CHECK(top_share(equal) == doctest::Approx(0.1));
  CHECK(gini(equal) == doctest::Approx(0.0));
  CHECK(top_share(one) == 1.0);
  CHECK(gini(one) == doctest::Approx(0.75));
  CHECK(std::isnan(gini(std::vector<double>{0, 0})));
  CHECK(share_below(std::vector<double>{1, 2, 3, 4}, 3) == 0.5);
}

TEST_CASE("quantile and median: NumPy's linear interpolation, in any order of the values") {
  const std::vector<double> odd = {9, 1, 5}, even = {4, 1, 3, 2}, ten = {10, 3, 7, 1, 8, 2, 9, 5, 4, 6};
  CHECK(median(odd) == 5);
  CHECK(median(even) == 2.5);
  CHECK(quantile(ten, 0) == 1);
  CHECK(quantile(ten, 1) == 10);
  CHECK(quantile(ten, 0.05) == doctest::Approx(1.45).epsilon(1e-15));   // np.quantile(range(1, 11), 0.05)
  CHECK(quantile(ten, 0.95) == doctest::Approx(9.55).epsilon(1e-15));
  CHECK(quantile(std::vector<double>{7}, 0.3) == 7);
}

TEST_CASE("quantile: infinities are values, nan and nothing give nan, and q must be between 0 and 1") {
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::nan("");
  CHECK(median(std::vector<double>{infinity, infinity, 1, infinity}) == infinity);
  CHECK(median(std::vector<double>{-infinity, 1, 2, infinity}) == 1.5);
  CHECK(quantile(std::vector<double>{1, infinity}, 0) == 1);
  CHECK(std::isnan(median(std::vector<double>{1, nan, 2})));
  CHECK(std::isnan(median(std::vector<double>{})));
  CHECK_THROWS_WITH_AS(quantile(std::vector<double>{1}, 1.5), "quantile: q = 1.5 must be between 0 and 1",
                       std::invalid_argument);
  CHECK_THROWS_AS(quantile(std::vector<double>{1}, nan), std::invalid_argument);
}

TEST_CASE("spectra: singular values, rank and effective rank of matrices that are known") {
  const Tensor diagonal = tensor({3.0, 0.0, 0.0, 0.0, -5.0, 0.0}, {2, 3});
  const std::vector<double> sigma = singular_values(diagonal);
  REQUIRE(sigma.size() == 2);
  CHECK(sigma[0] == doctest::Approx(5.0));
  CHECK(sigma[1] == doctest::Approx(3.0));
  Rng rng(3);
  const Tensor low = matmul(randn({20, 3}, rng, Dtype::float64), randn({3, 12}, rng, Dtype::float64));
  CHECK(matrix_rank(low) == 3);
  CHECK(matrix_rank(low.to(Dtype::float32)) == 3);
  CHECK(matrix_rank(zeros({4, 4})) == 0);
  CHECK(matrix_rank(zeros({0, 4})) == 0);
  CHECK(effective_rank(std::vector<double>{2, 2, 2, 0}) == doctest::Approx(3.0));
}

TEST_CASE("diagnostics refuse what they cannot measure, by name") {
  CHECK_THROWS_WITH_AS(singular_values(ones({2, 2, 2})), "singular_values: needs a matrix, not shape [2, 2, 2]",
                       std::invalid_argument);
  CHECK_THROWS_AS(singular_values(full({2, 2}, std::numeric_limits<double>::quiet_NaN())), std::invalid_argument);
  CHECK_THROWS_AS(entropy(tensor({1, 2}, {2})), std::invalid_argument);
  CHECK_THROWS_AS(row_norms(full({}, 1.0)), std::invalid_argument);
}

}
