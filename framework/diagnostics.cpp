// Measurements of attention. Rows are read straight from the buffers; spectra come from linalg.
#include "framework/diagnostics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "framework/autograd.hpp"
#include "framework/detail/node.hpp"
#include "framework/errors.hpp"
#include "framework/linalg.hpp"

namespace surgeon {
namespace {

// f(row, n) for each row, with the C++ type of the dtype.
template <class Number = double, class F>
std::vector<Number> by_row(const char* name, const Tensor& x, const F& f) {
  require_floating(name, x);
  require(x.rank() >= 1, name, ": a scalar has no rows");
  const std::int64_t n = x.shape(-1), rows = n == 0 ? 0 : x.size() / n;
  std::vector<Number> result(static_cast<std::size_t>(rows));
  detail::visit_floating(x.dtype(), [&]<class T>(T) {
    const T* values = detail::data<T>(x);
    for (std::int64_t r = 0; r < rows; ++r) result[std::size_t(r)] = f(values + r * n, n);
  });
  return result;
}

// Eight sums side by side, so that additions need not wait for each other.
template <class T>
double sum_of_squares(const T* x, std::int64_t n) {
  constexpr std::int64_t lanes = 8;
  double sums[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (std::int64_t k = 0; k < lanes; ++k) sums[k] += double(x[i + k]) * double(x[i + k]);
  for (; i < n; ++i) sums[0] += double(x[i]) * double(x[i]);
  return std::accumulate(sums, sums + lanes, 0.0);
}

// A row as its winner and the others: sums over the others keep their digits where 1 - p would lose them.
struct Others {
  double winner = 0, sum = 0, squares = 0, second = 0;
  std::int64_t place = 0;
  template <class T>
  Others(const T* p, std::int64_t n) : place(std::max_element(p, p + n) - p) {
    winner = double(p[place]);
    for (std::int64_t i = 0; i < n; ++i) {
      if (i == place) continue;
      second = std::max(second, double(p[i]));
      sum += double(p[i]);
      squares += double(p[i]) * double(p[i]);
    }
  }
};

bool any_nan(const auto* p, std::int64_t n) {
  return std::any_of(p, p + n, [](auto v) { return std::isnan(v); });
}

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// ||J||^2 = sum_i p_i^2 [ (sum_{j != i} p_j)^2 + sum_{j != i} p_j^2 ]: every term is positive. All but the winner are
// divided by the second largest, so that their squares do not underflow.
double jacobian_norm(const Others& o, const auto* p, std::int64_t n) {
  if (o.second == 0) return 0.0;
  double sum = 0, squares = 0, rest = 0;   // in units of the second largest
  for (std::int64_t i = 0; i < n; ++i) {
    if (i == o.place) continue;
    const double x = double(p[i]), u = x / o.second;
    sum += u;
    squares += u * u;
    rest += u * u * ((1 - x) * (1 - x) + o.winner * o.winner + (o.squares - x * x));
  }
  return o.second * std::sqrt(o.winner * o.winner * (sum * sum + squares) + rest);
}

// p: room for n numbers. ln sum and entropy as the winner's part, which is 0, and the others': all terms are positive.
template <class T>
ScoreRow score_row(const T* s, std::int64_t n, double* p) {
  const std::int64_t winner = std::max_element(s, s + n) - s;
  const double largest = double(s[winner]);
  if (any_nan(s, n) || largest == std::numeric_limits<double>::infinity()) return {nan, nan, nan, nan};
  if (largest == -std::numeric_limits<double>::infinity()) return {largest, largest, 0, 0};
  double others = 0, weighted = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double gap = largest - double(s[i]);
    p[i] = std::exp(-gap);
    if (i == winner || p[i] == 0) continue;
    others += p[i];
    weighted += p[i] * gap;
  }
  const double sum = 1 + others, logarithm = std::log1p(others);
  for (std::int64_t i = 0; i < n; ++i) p[i] /= sum;
  return {largest, largest + logarithm, logarithm + weighted / sum, jacobian_norm(Others(p, n), p, n)};
}

}  // namespace

std::vector<double> entropy(const Tensor& weights, double inside) {
  return by_row("entropy", weights, [inside](const auto* p, std::int64_t n) {
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i)
      if (p[i] != 0) sum -= double(p[i]) * std::log(double(p[i]) + inside);
    return sum;
  });
}

std::vector<double> largest(const Tensor& weights) {
  return by_row("largest", weights, [](const auto* p, std::int64_t n) {
    return any_nan(p, n) ? nan : double(*std::max_element(p, p + n));
  });
}

std::vector<double> softmax_jacobian_norm(const Tensor& weights) {
  return by_row("softmax_jacobian_norm", weights, [](const auto* p, std::int64_t n) {
    return any_nan(p, n) ? nan : jacobian_norm(Others(p, n), p, n);
  });
}

std::vector<ScoreRow> score_rows(const Tensor& scores) {
  std::vector<double> p(std::size_t(scores.rank() >= 1 ? scores.shape(-1) : 0));   // a row's exponentials, then weights
  return by_row<ScoreRow>("score_rows", scores,
                          [&](const auto* s, std::int64_t n) { return score_row(s, n, p.data()); });
}

// 1 - sum p^2 = sum_i p_i (sum_{j != i} p_j)
std::vector<double> softmax_jacobian_trace(const Tensor& weights) {
  return by_row("softmax_jacobian_trace", weights, [](const auto* p, std::int64_t n) {
    if (any_nan(p, n)) return nan;
    const Others o(p, n);
    double sum = o.winner * o.sum;
    for (std::int64_t i = 0; i < n; ++i)
      if (i != o.place) sum += double(p[i]) * (1 - double(p[i]));
    return o.second == 0 ? 0.0 : sum;
  });
}

double norm(const Tensor& x) {
  require_floating("norm", x);
  return detail::visit_floating(x.dtype(), [&]<class T>(T) {
    return std::sqrt(sum_of_squares(detail::data<T>(x), x.size()));
  });
}

std::vector<double> row_norms(const Tensor& x) {
  return by_row("row_norms", x, [](const auto* row, std::int64_t n) { return std::sqrt(sum_of_squares(row, n)); });
}

double zero_rows(const Tensor& x) {
  const std::vector<double> zero = by_row("zero_rows", x, [](const auto* row, std::int64_t n) {
    return std::all_of(row, row + n, [](auto v) { return v == 0; }) ? 1.0 : 0.0;
  });
  return std::accumulate(zero.begin(), zero.end(), 0.0) / double(zero.size());
}

double share_below(std::span<const double> values, double threshold) {
  const auto below = std::count_if(values.begin(), values.end(), [=](double v) { return v < threshold; });
  return values.empty() ? nan : double(below) / double(values.size());
}

double top_share(std::span<const double> values, double top) {
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  const auto count = std::size_t(std::ceil(top * double(sorted.size()) - 1e-9));
  const double all = std::accumulate(sorted.begin(), sorted.end(), 0.0);
  return all > 0 ? std::accumulate(sorted.begin(), sorted.begin() + std::ptrdiff_t(count), 0.0) / all : nan;
}

double gini(std::span<const double> values) {
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const double n = double(sorted.size());
  double all = 0, ranked = 0;
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    all += sorted[i];
    ranked += double(i + 1) * sorted[i];
  }
  return all > 0 ? 2 * ranked / (n * all) - (n + 1) / n : nan;
}

double quantile(std::span<const double> values, double q) {
  require(q >= 0 && q <= 1, "quantile: q = ", q, " must be between 0 and 1");
  if (values.empty() || any_nan(values.data(), std::ssize(values))) return nan;
  std::vector<double> x(values.begin(), values.end());
  const double place = q * double(x.size() - 1);
  const auto below = x.begin() + std::ptrdiff_t(place);
  std::nth_element(x.begin(), below, x.end());
  const double weight = place - std::floor(place);
  if (weight == 0) return *below;
  const double above = *std::min_element(below + 1, x.end());
  return above == *below ? above : (1 - weight) * *below + weight * above;   // equal infinities stay what they are
}

double median(std::span<const double> values) { return quantile(values, 0.5); }

std::vector<double> singular_values(const Tensor& matrix) {
  require_floating("singular_values", matrix);
  require(matrix.rank() == 2, "singular_values: needs a matrix, not shape ", matrix.shape());
  const NoRecord pause;
  const Tensor sigma = linalg::singular_values(matrix.to(Dtype::float64));
  const std::span<const double> values = sigma.values<double>();
  return {values.begin(), values.end()};
}

std::int64_t matrix_rank(const Tensor& matrix, double rtol) {
  const std::vector<double> sigma = singular_values(matrix);
  if (sigma.empty()) return 0;
  const double epsilon = matrix.dtype() == Dtype::float32 ? double(std::numeric_limits<float>::epsilon())
                                                          : std::numeric_limits<double>::epsilon();
  const double most = double(std::max(matrix.shape(0), matrix.shape(1)));
  const double threshold = sigma.front() * (rtol < 0 ? most * epsilon : rtol);
  return std::count_if(sigma.begin(), sigma.end(), [=](double s) { return s > threshold; });
}

double effective_rank(std::span<const double> sigma) {
  const double all = std::accumulate(sigma.begin(), sigma.end(), 0.0);
  if (!(all > 0)) return all == 0 ? 0 : nan;
  double entropy = 0;
  for (double s : sigma)
    if (s > 0) entropy -= s / all * std::log(s / all);
  return std::exp(entropy);
}

}  // namespace surgeon
