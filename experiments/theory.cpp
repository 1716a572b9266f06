#include "experiments/theory.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace surgeon::claims {
namespace {

// The trapezoid rule, whose error falls faster than any power of the step for smooth f that vanish at both ends.
double integral(double low, double high, double step, const std::function<double(double)>& f) {
  const auto n = std::int64_t(std::ceil((high - low) / step));
  const double h = (high - low) / double(n);
  double sum = 0;
  for (std::int64_t i = 0; i <= n; ++i) sum += (i == 0 || i == n ? 0.5 : 1.0) * f(low + double(i) * h);
  return sum * h;
}

}  // namespace

double density(double x) { return std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi); }
double cumulative(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }

double gap_density_at_zero(std::int64_t n) {
  return double(n) * double(n - 1) *
         integral(-10, 10, 0.02, [n](double x) { return density(x) * density(x) * std::pow(cumulative(x), n - 2); });
}

// P(gap > g) = n int phi(x) Phi(x - g)^(n-1) dx falls in g: halve until the median is between.
double median_gap(std::int64_t n) {
  double low = 0, high = 10;
  for (int i = 0; i < 60; ++i) {
    const double g = 0.5 * (low + high);
    const double beyond = double(n) * integral(-10, 12, 0.02, [n, g](double x) {
      return density(x) * std::pow(cumulative(x - g), n - 1);
    });
    (beyond > 0.5 ? low : high) = g;
  }
  return 0.5 * (low + high);
}

double over_normal(const std::function<double(double)>& f) {
  return integral(-10, 10, 0.1, [&](double x) { return density(x) * f(x); });
}

// The length has density r^(d-1) e^(-r^2/2), within a few of sqrt(d - 1).
double over_length(std::int64_t d, const std::function<double(double)>& f) {
  const double middle = std::sqrt(double(std::max<std::int64_t>(d - 1, 1)));
  const auto weight = [&](double r) {
    return r <= 0 ? 0.0 : std::exp(double(d - 1) * std::log(r / middle) - 0.5 * (r * r - middle * middle));
  };
  const double low = std::max(0.0, middle - 7), high = middle + 7, step = 0.4;
  const double all = integral(low, high, step, weight);
  return integral(low, high, step, [&](double r) { return weight(r) < 1e-15 ? 0.0 : weight(r) * f(r); }) / all;
}

// Narrow scores: over s directly. Wide ones: over x = s - t, where e^(ax - e^x) is narrow.
double RandomRow::factor(int a, double t) const {
  if (s_ < 1)
    return over_normal([&](double z) {
      const double x = s_ * z - t;
      return std::exp(a * x - std::exp(x));
    });
  return integral(-40, 4.5, 0.25, [&](double x) {
    return std::exp(a * x - std::exp(x)) * density((x + t) / s_) / s_;
  });
}

// Through 1 - E exp(-e^(s-t)), which may be tiny; of wide scores after integration by parts:
// E h(s - t) = int -h'(x) P(s - t <= x) dx.
double RandomRow::empty(double t, double keys) const {
  const double beyond = s_ < 1 ? over_normal([&](double z) { return -std::expm1(-std::exp(s_ * z - t)); })
                               : integral(-40, 4.5, 0.25, [&](double x) {
                                   return std::exp(x - std::exp(x)) * cumulative(-(x + t) / s_);
                                 });
  return beyond >= 1 ? 0.0 : std::exp(keys * std::log1p(-beyond));
}

double RandomRow::over_t(double step, const std::function<double(double)>& f) const {
  const double far = (7 + std::sqrt(2 * std::log(n_))) * s_;
  return integral(-far - 6, far + 45, step, f);
}

double RandomRow::moment(int a, int b) const {
  const double others = n_ - (b == 0 ? 1 : 2);
  // What varies: one normal over s, and the largest of n over s / sqrt(2 ln n).
  const double step = std::max(0.25, std::min(s_ / 16, s_ / (4 * std::sqrt(2 * std::log(n_)))));
  const double all = over_t(step, [&](double t) {
    const double none = empty(t, others);
    return none == 0 ? 0.0 : none * factor(a, t) * (b == 0 ? 1.0 : factor(b, t));
  });
  return all / std::tgamma(double(a + b));
}

double RandomRow::purity() const { return n_ * moment(2, 0); }

double RandomRow::jacobian_square() const {
  return n_ * (moment(2, 0) - 2 * moment(3, 0) + moment(4, 0) + (n_ - 1) * moment(2, 2));
}

// H = ln Z - sum p s. E ln Z = int (exp(-e^-t) - E exp(-Z e^-t)) dt, and by Stein's lemma E sum p s = s^2 E[1 - sum p^2].
double RandomRow::lost_entropy() const {
  const double log_sum = over_t(0.25, [&](double t) {   // the first term changes within a few units of t
    return std::exp(-std::exp(-t)) - empty(t, n_);
  });
  return std::log(n_) - (log_sum - s_ * s_ * (1 - purity()));
}

double frozen_jacobian_square(double spread) {
  const double m = 1 / spread;
  return m < 1 ? m * (1 - m) / 3 : 0;
}

}  // namespace surgeon::claims
