#include "experiments/claims.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "experiments/lab.hpp"
#include "framework/diagnostics.hpp"

namespace surgeon::claims {
namespace {

constexpr int resamples = 200;

double mean_of(const std::vector<double>& x) { return std::accumulate(x.begin(), x.end(), 0.0) / double(x.size()); }

double deviation(const std::vector<double>& x) {   // standard
  const double mean = mean_of(x);
  double squares = 0;
  for (const double v : x) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / double(x.size() - 1));
}

std::vector<double> resampled(const std::vector<double>& x, Rng& rng) {
  std::vector<double> y(x.size());
  for (double& v : y) v = x[std::size_t(rng.below(std::ssize(x)))];
  return y;
}

}  // namespace

double Reading::z() const {
  if (is_bound && measured <= predicted) return 0;
  const double apart = measured - predicted;
  return apart == 0 ? 0 : apart / error;
}

Verdict Reading::verdict() const {
  if (std::isnan(z())) return Verdict::out_of_range;
  return std::abs(z()) < 4 ? Verdict::agrees : Verdict::differs;
}

std::vector<double> Draws::each(const std::function<double(Rng&)>& draw, std::uint64_t part) const {
  std::vector<double> values;
  values.reserve(std::size_t(n));
  for (std::int64_t i = 0; i < n; ++i) {
    Rng rng(seed, (stream << 48) + (part << 40) + std::uint64_t(i));
    values.push_back(draw(rng));
  }
  return values;
}

Reading mean_reading(std::string what, double predicted, const std::vector<double>& draws) {
  return {std::move(what), predicted, mean_of(draws), deviation(draws) / std::sqrt(double(draws.size()))};
}

Reading root_mean_square_reading(std::string what, double predicted, const std::vector<double>& squares) {
  const Reading square = mean_reading("", 0, squares);
  const double root = std::sqrt(square.measured);
  return {std::move(what), predicted, root, square.error / (2 * root)};
}

Reading median_reading(std::string what, double predicted, const std::vector<double>& draws) {
  Rng rng(1, 0);
  std::vector<double> medians;
  for (int i = 0; i < resamples; ++i) medians.push_back(median(resampled(draws, rng)));
  return {std::move(what), predicted, median(draws), deviation(medians)};
}

// By the delta method: the error of mean(a - r b) / mean(b).
Reading ratio_reading(std::string what, double predicted, const std::vector<double>& above,
                      const std::vector<double>& below) {
  const double ratio = mean_of(above) / mean_of(below);
  std::vector<double> rest(above.size());
  for (std::size_t i = 0; i < rest.size(); ++i) rest[i] = above[i] - ratio * below[i];
  return {std::move(what), predicted, ratio, deviation(rest) / std::sqrt(double(rest.size())) / std::abs(mean_of(below))};
}

Reading identity(std::string what, double predicted, double measured, double allowed) {
  return {std::move(what), predicted, measured, allowed / 4};   // agrees: within what is allowed
}

Reading at_most(std::string what, double bound, double measured, double allowed) {
  return {std::move(what), bound, measured, allowed / 4, true};
}

double slope(const std::vector<double>& x, const std::vector<double>& y) {
  const double mx = mean_of(x), my = mean_of(y);
  double xy = 0, xx = 0;
  for (std::size_t i = 0; i < x.size(); ++i) xy += (x[i] - mx) * (y[i] - my), xx += (x[i] - mx) * (x[i] - mx);
  return xy / xx;
}

Reading slope_reading(std::string what, double predicted, const std::vector<double>& x,
                      const std::vector<std::vector<double>>& draws, const Summary& y) {
  const auto fitted = [&](const auto& sample) {
    std::vector<double> points;
    for (const std::vector<double>& own : draws) points.push_back(y(sample(own)));
    return slope(x, points);
  };
  Rng rng(1, 0);
  std::vector<double> slopes;
  for (int i = 0; i < resamples; ++i) slopes.push_back(fitted([&](const auto& own) { return resampled(own, rng); }));
  return {std::move(what), predicted, fitted([](const auto& own) { return own; }), deviation(slopes)};
}

double log_mean(const std::vector<double>& draws) { return std::log(mean_of(draws)); }
double log_median(const std::vector<double>& draws) { return std::log(median(draws)); }

std::vector<Claim> all() {
  std::vector<Claim> claims;
  for (const auto& theme : {saturation(), chain(), rules(), rounding()})
    claims.insert(claims.end(), theme.begin(), theme.end());
  std::sort(claims.begin(), claims.end(), [](const Claim& a, const Claim& b) { return a.number < b.number; });
  return claims;
}

}  // namespace surgeon::claims
