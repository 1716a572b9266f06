// Claims about the softmax Jacobian of random rows: its mean, its typical size, and the best spread of the scores.
#include <algorithm>
#include <cmath>
#include <functional>

#include <fmt/format.h>

#include "experiments/claims.hpp"
#include "experiments/theory.hpp"
#include "framework/diagnostics.hpp"
#include "framework/framework.hpp"

namespace surgeon::claims {
namespace {

constexpr Dtype f64 = Dtype::float64;
constexpr std::int64_t n = 10;   // keys

// One query and `keys` keys, from N(0, 1): the products q . k, [1, keys].
Tensor products(Rng& rng, std::int64_t d_k, std::int64_t keys = n) {
  const Tensor q = randn({1, d_k}, rng, f64);
  return matmul(q, randn({keys, d_k}, rng, f64), {.transpose_b = true});
}

double first(const std::vector<double>& values) { return values[0]; }
double squared(double x) { return x * x; }
double purity(const Tensor& p) { return sum(p * p).item(); }

// ---- 1: q . k is a sum of d_k products of mean 0 and variance 1 ----------------------------------------------------
std::vector<Reading> variance_of_products(const Draws& draws) {
  std::vector<Reading> readings;
  for (const std::int64_t d : {16, 64, 256, 1024})
    readings.push_back(root_mean_square_reading(
        fmt::format("std of q.k, d_k {}", d), std::sqrt(double(d)),
        draws.each([d](Rng& rng) { return squared(products(rng, d, 1).item()); }, std::uint64_t(d))).at(double(d)));
  return readings;
}

// ---- 2: J = diag(p) - p p^T, so tr J = 1 - sum p^2 and ||J||^2 = sum_i p_i^2 (1 - p_i)^2 + sum_(i != j) p_i^2 p_j^2
//         = sum p^2 - 2 sum p^3 + (sum p^2)^2; at p = 1/n it is (n - 1) / n^2 ----------------------------------------
std::vector<Reading> exact_jacobian(const Draws& draws) {
  double norm_off = 0, trace_off = 0;
  (void)draws.each([&](Rng& rng) {
    const Tensor s = reshape(products(rng, 16), {n}), p = softmax(s);
    const Tensor J = jacobian([](const Tensor& x) { return softmax(x); }, s);   // by n vector-Jacobian products
    norm_off = std::max(norm_off, std::abs(norm(J) - first(softmax_jacobian_norm(p))));
    trace_off = std::max(trace_off, std::abs(sum(diagonal(J)).item() - first(softmax_jacobian_trace(p))));
    return 0.0;
  });
  const Tensor even = full({n}, 1.0 / double(n), f64);
  return {identity("|J| by autograd - formula", 0, norm_off, 1e-14),
          identity("tr J by autograd - formula", 0, trace_off, 1e-14),
          identity("|J| of equal weights, n = 10", std::sqrt(double(n - 1)) / double(n),
                   first(softmax_jacobian_norm(even)), 1e-15)};
}

// ---- 3: x^T J x is the variance of x under p, at most (max x - min x)^2 / 4 <= |x|^2 / 2 ----------------------------
std::vector<Reading> half_lipschitz(const Draws& draws) {
  const auto top = [](const Tensor& p) {   // J is symmetric and has no negative eigenvalue
    return singular_values(eye(p.shape(0), f64) * p - reshape(p, {-1, 1}) * p)[0];
  };
  const std::vector<double> tops = draws.each([&](Rng& rng) { return top(reshape(softmax(products(rng, 16)), {n})); });
  return {at_most("top eigenvalue of J", 0.5, *std::max_element(tops.begin(), tops.end()), 1e-14),
          identity("the same at p = (1/2, 1/2)", 0.5, top(tensor({0.5, 0.5})), 1e-15)};
}

// ---- 4: only rows whose two largest scores are closer than about 1 are not one-hot. With density f_n / sqrt(d_k) of
//         gaps near 0, int 2 p (1 - p) dg over both orders of the two gives E[1 - sum p^2] -> f_n / sqrt(d_k) ---------
std::vector<Reading> mean_saturation(const Draws& draws) {
  std::vector<Reading> readings;
  std::vector<std::vector<double>> all;
  std::vector<double> x;
  for (const std::int64_t d : {64, 256, 1024}) {
    const auto own = [d](Rng& rng) { return first(softmax_jacobian_trace(softmax(products(rng, d)))); };
    all.push_back(draws.each(own, std::uint64_t(d)));
    x.push_back(std::log(double(d)));
    readings.push_back(mean_reading(fmt::format("E[1 - sum p^2], d_k {}", d),
                                    gap_density_at_zero(n) / std::sqrt(double(d)), all.back()).at(double(d)));
  }
  readings.push_back(slope_reading("log-log slope in d_k", -0.5, x, all, log_mean));
  return readings;
}

// ---- 5: the random energy model. For n -> inf the sum of e^(s_j) freezes at s_c = sqrt(2 ln n) ----------------------
std::vector<Reading> freezing(const Draws& draws) {
  constexpr std::int64_t many = 1000;
  const double s_c = std::sqrt(2 * std::log(double(many))), s = 2 * s_c;
  const std::vector<double> own =
      draws.each([s](Rng& rng) { return purity(softmax(randn({1, many}, rng, f64) * s)); });
  return {mean_reading("E[sum p^2], n = 1000, exact", RandomRow(many, s).purity(), own),
          mean_reading("the same, limit 1 - s_c/s", 1 - s_c / s, own)};
}

// ---- 6: at the median the two largest scores are a gap g = m_n sqrt(d_k) apart, and ||J|| = 2 e^-g (1 + ...), while
//         the mean is carried by the few rows with small gaps: int 2 p (1 - p) dg again ------------------------------
std::vector<Reading> typical_row(const Draws& draws) {
  const auto norms = [&](std::int64_t d, double factor) {
    return draws.each([=](Rng& rng) { return first(softmax_jacobian_norm(softmax(products(rng, d) * factor))); },
                      std::uint64_t(d));
  };
  std::vector<double> roots, logs;
  std::vector<std::vector<double>> plain, scaled;
  for (const std::int64_t d : {256, 576, 1024}) {
    roots.push_back(std::sqrt(double(d))), logs.push_back(std::log(double(d)));
    plain.push_back(norms(d, 1)), scaled.push_back(norms(d, 1 / std::sqrt(double(d))));
  }
  return {slope_reading("ln median |J| by sqrt(d_k)", -median_gap(n), roots, plain, log_median),
          slope_reading("ln mean |J| by ln d_k", -0.5, logs, plain, log_mean),
          slope_reading("scaled: ln median by ln d_k", 0, logs, scaled, log_median),
          slope_reading("scaled: ln mean by ln d_k", 0, logs, scaled, log_mean)};
}

// ---- 7: dL/dq = K^T J g for g from N(0, I) on the weights. Given q, the part of K across q is independent of the
//         scores: E |dL/dq|^2 = (d_k - 1) E ||J||^2, up to a share of about 1 / d_k^2 from the part along q. ||J||^2
//         falls like 1 / sqrt(d_k), so the root mean square grows like d_k^(1/4) --------------------------------------
double query_gradient_square(Rng& rng, std::int64_t d) {
  const Tensor q = randn({1, d}, rng, f64), K = randn({n, d}, rng, f64), g = randn({1, n}, rng, f64);
  const auto dq = vjp([&](const std::vector<Tensor>& in) { return softmax(matmul(in[0], K, {.transpose_b = true})); },
                      {q}, g)[0];
  return squared(norm(dq));
}

std::vector<Reading> growing_gradient(const Draws& draws) {
  std::vector<Reading> readings;
  std::vector<std::vector<double>> all;
  std::vector<double> x, expected;
  for (const std::int64_t d : {64, 256, 1024}) {
    all.push_back(draws.each([d](Rng& rng) { return query_gradient_square(rng, d); }, std::uint64_t(d)));
    x.push_back(std::log(double(d)));
    expected.push_back(0.5 * std::log(double(d - 1) * over_length(d, [](double r) {
      return RandomRow(n, r).jacobian_square();
    })));
    readings.push_back(root_mean_square_reading(fmt::format("RMS |dL/dq|, d_k {}", d), std::exp(expected.back()),
                                                all.back()).at(double(d)));
  }
  readings.push_back(slope_reading("its log-log slope (limit 1/4)", slope(x, expected), x, all,
                                   [](const std::vector<double>& own) { return 0.5 * log_mean(own); }));
  return readings;
}

// ---- 9: too narrow and too wide scores both have small Jacobians; where is the mean largest? -----------------------
Reading best_spread(const Draws& draws, std::int64_t keys) {
  std::vector<double> spreads;
  for (double s = 0.6; s < 6; s += 0.2) spreads.push_back(s);
  std::vector<std::vector<double>> norms(spreads.size());   // the same normals at each spread
  (void)draws.each([&](Rng& rng) {
    const Tensor z = randn({1, keys}, rng, f64);
    for (std::size_t i = 0; i < spreads.size(); ++i)
      norms[i].push_back(first(softmax_jacobian_norm(softmax(z * spreads[i]))));
    return 0.0;
  }, std::uint64_t(keys));
  const auto best = [&](std::size_t from, std::size_t to) {   // of a part of the draws; a parabola through the top three
    std::vector<double> means(spreads.size(), 0.0);
    for (std::size_t i = 0; i < spreads.size(); ++i)
      for (std::size_t k = from; k < to; ++k) means[i] += norms[i][k];
    const std::size_t top = std::size_t(std::clamp<std::ptrdiff_t>(
        std::max_element(means.begin(), means.end()) - means.begin(), 1, std::ssize(means) - 2));
    const double a = means[top - 1], b = means[top], c = means[top + 1];
    return spreads[top] + 0.1 * (a - c) / (a - 2 * b + c);
  };
  const std::size_t all = norms[0].size(), parts = std::min<std::size_t>(20, all);   // whose scatter gives the error
  std::vector<double> tops;
  for (std::size_t i = 0; i < parts; ++i) tops.push_back(best(i * all / parts, (i + 1) * all / parts));
  Reading reading = mean_reading(fmt::format("best spread, n = {}", keys),
                                 std::sqrt(2 * std::log(double(keys))), tops);
  reading.measured = best(0, all);
  return reading;
}

std::vector<Reading> best_spreads(const Draws& draws) { return {best_spread(draws, 10), best_spread(draws, 64)}; }

// ---- 17: with the factor 1/d_k scores are small, of variance |q|^2 / d_k^2: ln n - H = (1 - 1/n) / (2 d_k) + ... ----
std::vector<Reading> blind_start(const Draws& draws) {
  std::vector<Reading> readings;
  std::vector<std::vector<double>> all, usual;
  std::vector<double> x, expected;
  const auto lost = [](const Tensor& s) { return std::log(double(n)) - first(entropy(softmax(s))); };
  for (const std::int64_t d : {16, 64, 256}) {
    all.push_back(draws.each([&](Rng& rng) { return lost(products(rng, d) * (1 / double(d))); }, std::uint64_t(d)));
    usual.push_back(draws.each([&](Rng& rng) { return lost(products(rng, d) * (1 / std::sqrt(double(d)))); },
                               std::uint64_t(d)));
    x.push_back(std::log(double(d)));
    const double exact = over_length(d, [d](double r) { return RandomRow(n, r / double(d)).lost_entropy(); });
    expected.push_back(std::log(exact));
    readings.push_back(mean_reading(fmt::format("ln n - E[H], 1/d_k, d_k {}", d), exact, all.back()).at(double(d)));
  }
  readings.push_back(slope_reading("its log-log slope (limit -1)", slope(x, expected), x, all, log_mean));
  readings.push_back(slope_reading("the same for 1/sqrt(d_k)", 0, x, usual, log_mean));
  return readings;
}

// ---- 27: for scores from N(0, s^2) and many keys, n sum p^2 -> E e^(2s) / (E e^s)^2 = e^(s^2), and the other terms of
//         n ||J||^2 vanish like 1/n -----------------------------------------------------------------------------------
std::vector<Reading> starving_rows(const Draws& draws) {
  std::vector<Reading> readings;
  for (const std::int64_t keys : {64, 256, 1024}) {
    const auto own = [keys](Rng& rng) {
      return double(keys) * squared(first(softmax_jacobian_norm(softmax(randn({1, keys}, rng, f64)))));
    };
    readings.push_back(mean_reading(fmt::format("n E|J|^2, n = {} (limit e)", keys),
                                    double(keys) * RandomRow(keys, 1).jacobian_square(),
                                    draws.each(own, std::uint64_t(keys))).at(double(keys)));
  }
  return readings;
}

// ---- 47: docs/finding.md. Above s_c the weights of many keys, in falling order, follow a Poisson-Dirichlet law with
//          m = s_c / s, for which E sum p^k = G(k - m) / (G(k) G(1 - m)) and E sum_(i != j) p_i^2 p_j^2 = m (1 - m)^2 / 6.
//          So E ||J||^2 = (1 - m) - (1 - m)(2 - m) + (1 - m)(2 - m)(3 - m) / 6 + m (1 - m)^2 / 6 = m (1 - m) / 3:
//          largest at m = 1/2, twice the freezing spread, where it is 1/12 ---------------------------------------------
double best_spread_of_squares(double keys) {   // in units of s_c: the vertex of parabolas that close in
  const auto value = [s_c = std::sqrt(2 * std::log(keys)), keys](double spread) {
    return RandomRow(keys, spread * s_c).jacobian_square();
  };
  double best = 1.9;
  for (const double h : {0.2, 0.05, 0.02}) {
    const double a = value(best - h), b = value(best), c = value(best + h);
    best += 0.5 * h * (a - c) / (a - 2 * b + c);
  }
  return best;
}

// The value at 1/ln n = 0, since corrections fall like 1 / ln n: of the parabola through the values at three n.
double at_infinity(const std::function<double(double)>& f) {
  const double n[] = {1e20, 1e40, 1e80};
  double sum = 0;
  for (int i = 0; i < 3; ++i) {
    double weight = f(n[i]);
    for (int j = 0; j < 3; ++j)
      if (j != i) weight *= std::log(n[i]) / (std::log(n[i]) - std::log(n[j]));
    sum += weight;
  }
  return sum;
}

std::vector<Reading> twice_freezing(const Draws& draws) {
  constexpr std::int64_t many = 1000;
  const double s_c = std::sqrt(2 * std::log(double(many)));
  std::vector<Reading> readings;
  for (const double spread : {1.0, 1.5, 2.0, 3.0}) {
    const auto own = [=](Rng& rng) {
      return squared(first(softmax_jacobian_norm(softmax(randn({1, many}, rng, f64) * (spread * s_c)))));
    };
    readings.push_back(mean_reading(fmt::format("E|J|^2, n 1000, s = {} s_c", spread),
                                    RandomRow(many, spread * s_c).jacobian_square(),
                                    draws.each(own, std::uint64_t(10 * spread))).at(spread));
  }
  for (const double spread : {1.5, 2.0, 3.0})
    readings.push_back(identity(fmt::format("limit, s = {} s_c: m(1-m)/3", spread), frozen_jacobian_square(spread),
                                at_infinity([spread](double keys) {
                                  return RandomRow(keys, spread * std::sqrt(2 * std::log(keys))).jacobian_square();
                                }), 2e-4));
  readings.push_back(identity("limit of the best s / s_c: 2", 2, at_infinity(best_spread_of_squares), 0.02));
  return readings;
}

}  // namespace

std::vector<Claim> saturation() {
  return {
      {1, "The products q.k have variance d_k", "Vaswani 2017, section 3.2.1", variance_of_products, "", "d_k", "std of q.k"},
      {2, "The softmax Jacobian's norm and trace follow from the weights alone", "derived here", exact_jacobian},
      {3, "Softmax is 1/2-Lipschitz", "Nair 2025, arXiv 2510.23012", half_lipschitz},
      {4, "Unscaled, the mean trace of the Jacobian falls like 1/sqrt(d_k)", "derived here", mean_saturation, "", "d_k", "E[1 - sum p^2]"},
      {5, "Many keys freeze at a spread of sqrt(2 ln n)", "random energy model; arXiv 2505.24333", freezing,
       "At n = 1000 the limit is still far: corrections fall like ln ln n / ln n. The exact value for this n agrees."},
      {6, "Unscaled, the typical row dies exponentially in sqrt(d_k), the mean only like 1/sqrt(d_k)", "derived here",
       typical_row},
      {7, "Unscaled, the RMS gradient of a query grows like d_k^(1/4)", "derived here", growing_gradient, "", "d_k", "RMS |dL/dq|"},
      {9, "The spread of scores with the largest mean Jacobian grows like sqrt(2 ln n)", "derived here; rival of 5",
       best_spreads, "sqrt(2 ln n) is where rows freeze; the largest mean Jacobian lies elsewhere."},
      {17, "A scale of 1/d_k starts blind: lost entropy falls like 1/d_k", "derived here", blind_start, "", "d_k", "ln n - E[H]"},
      {27, "A fixed spread of scores starves long rows: n E||J||^2 tends to exp(s^2)",
       "bound: arXiv 2410.01104; constant derived here", starving_rows, "", "n",
       "n E|J|^2"},
      {47, "Softmax over many keys is most alive at twice its freezing spread", "found here: docs/finding.md",
       twice_freezing, "", "s / s_c", "E|J|^2"}};
}

}  // namespace surgeon::claims
