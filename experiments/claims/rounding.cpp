// Claims about numbers of few bits: where a gradient rounds to 0, and where a sum is biased.
#include <algorithm>
#include <cmath>
#include <functional>

#include <fmt/format.h>

#include "experiments/claims.hpp"
#include "experiments/theory.hpp"
#include "framework/diagnostics.hpp"
#include "framework/framework.hpp"
#include "framework/low_precision.hpp"

namespace surgeon::claims {
namespace {

// The smallest x at which what is true at `high` is true.
double threshold(double low, double high, const std::function<bool(double)>& is_true) {
  for (int i = 0; i < 60; ++i) (is_true(0.5 * (low + high)) ? high : low) = 0.5 * (low + high);
  return high;
}

// The winner's own derivative p (1 - p) and the loser's weight, of two scores `gap` apart.
std::pair<double, double> two_scores(double gap, Dtype dtype) {
  const Tensor s = tensor({gap, 0.0}).to(dtype), winner = tensor({1.0, 0.0}).to(dtype);
  const auto own = vjp([](const std::vector<Tensor>& in) { return softmax(in[0]); }, {s}, winner)[0];
  return {own.at({0}), softmax(s).at({1})};
}

// ---- 8: 1 + e^-gap is 1 in float32 once e^-gap <= 2^-24, half of the spacing above 1; e^-gap itself is 0 below half of
//         the smallest number, 2^-150, or below 2^-126 where small numbers are flushed ----------------------------------
std::vector<Reading> float32_death(const Draws&) {
  const auto dead = [](Dtype dtype) {
    return threshold(1, 60, [dtype](double gap) { return two_scores(gap, dtype).first == 0; });
  };
  const double weight = threshold(60, 120, [](double gap) { return two_scores(gap, Dtype::float32).second == 0; });
  return {identity("dS is 0 in float32: 24 ln 2", 24 * std::log(2.0), dead(Dtype::float32), 1e-5),
          identity("in float64: 53 ln 2", 53 * std::log(2.0), dead(Dtype::float64), 1e-9),
          identity("p is 0 in float32: 150 ln 2", 150 * std::log(2.0), weight, 0.01)};
}

// ---- 23: a fill of -100 is one more score. Unscaled, the first causal row's own score is q.k, from N(0, |q|^2) given q;
//          the n - 1 forbidden keys together outweigh it once it is below -100 + ln(n - 1) -------------------------------
std::vector<Reading> leaking_fill(const Draws& draws) {
  constexpr std::int64_t n = 10;
  std::vector<Reading> readings;
  for (const std::int64_t d : {1024, 4096, 16384}) {
    const auto leaks = [d](Rng& rng) {
      const Tensor own = matmul(randn({1, d}, rng), randn({d, 1}, rng));
      return softmax(concat({own, full({1, n - 1}, -100.0)}, 1)).at({0, 0}) < 0.5 ? 1.0 : 0.0;
    };
    readings.push_back(mean_reading(fmt::format("forbidden keys win, d_k {}", d), over_length(d, [](double r) {
                                      return cumulative((std::log(n - 1.0) - 100) / r);
                                    }), draws.each(leaks, std::uint64_t(d))).at(double(d)));
  }
  return readings;
}

// ---- 24: of a one-hot row, -sum p ln(p + eps) is -ln(1 + eps); -sum (p + eps) ln(p + eps) has n - 1 terms
//          eps ln(1/eps) more. Neither is 0 -----------------------------------------------------------------------------
std::vector<Reading> biased_entropy(const Draws&) {
  constexpr double eps = 1e-9, n = 10;
  const Tensor row = one_hot(tensor({std::int64_t{0}}), 10, Dtype::float64), shifted = row + eps;
  return {identity("-sum p ln(p + e), e 1e-9", -std::log1p(eps), entropy(row, eps)[0], 1e-15),
          identity("-sum (p + e) ln(p + e), e 1e-9", (n - 1) * eps * std::log(1 / eps) - eps,
                   -sum(shifted * log(shifted)).item(), 1e-15),
          identity("-sum p ln p, 0 ln 0 = 0", 0, entropy(row)[0], 1e-300)};
}

// ---- 37: two bfloat16 numbers from [1, 2) have a sum in [2, 4) that lies on the grid or in the middle of two of its
//          points, each half of the time. A small rest of one sign decides all ties alike: rounding errs by +rest or by
//          -1/2 + rest (in units of the last place): -(1/4 - rest) in the mean. Without a rest, ties to even are fair -----
std::vector<Reading> biased_sums(const Draws& draws) {
  constexpr double unit = 0x1p-6;   // of the last place, in [2, 4)
  const auto error = [&](double rest, std::uint64_t part) {
    return draws.each([rest](Rng& rng) {
      const auto number = [&] { return 1 + std::floor(rng.uniform() * 128) / 128; };
      const double exact = number() + number() - rest * unit;
      return (rounded_to(exact, Format::bfloat16) - exact) / unit;
    }, part);
  };
  return {mean_reading("mean error, rest 0.05 units", -(0.25 - 0.05), error(0.05, 0)),
          mean_reading("rest 0.15 units", -(0.25 - 0.15), error(0.15, 1)), mean_reading("no rest", 0, error(0, 2))};
}

// ---- 38: with p bits the sum 1 + e^-gap rounds to 1 past p ln 2, and then 1 - p is 0; a weight that is stored in p bits
//          rounds to 1 past (p + 1) ln 2, since numbers below 1 are twice as dense -----------------------------------------
std::vector<Reading> dead_gaps(const Draws&) {
  std::vector<Reading> readings;
  const auto rounds_to_one = [&](const std::string& what, double predicted, double (*number)(double gap), auto rounded) {
    readings.push_back(identity(what, predicted, threshold(0.1, 60, [&](double gap) { return rounded(number(gap)) == 1; }),
                                1e-6));
  };
  const auto both = [](double gap) { return 1 + std::exp(-gap); };
  const auto winner = [](double gap) { return 1 / (1 + std::exp(-gap)); };
  const auto to = [](Format format) { return [format](double x) { return rounded_to(x, format); }; };
  for (const auto& [format, bits] : {std::pair{Format::e4m3, 4}, {Format::bfloat16, 8}, {Format::float16, 11}})
    rounds_to_one(fmt::format("sum is 1, {}: {} ln 2", to_string(format), bits), bits * std::log(2.0), both, to(format));
  rounds_to_one("sum is 1, float32: 24 ln 2", 24 * std::log(2.0), both, [](double x) { return double(float(x)); });
  for (const auto& [format, bits] : {std::pair{Format::e4m3, 4}, {Format::bfloat16, 8}})
    rounds_to_one(fmt::format("p is 1, {}: about {} ln 2", to_string(format), bits + 1),
                  -std::log(1 / (1 - std::ldexp(1.0, -bits - 1)) - 1), winner, to(format));
  return readings;
}

// ---- 39: weights relative to a sink D above the others' mean, times S, in e4m3: the smallest number is 2^-9, and half
//          of it rounds to 0. S e^(x - D) <= 2^-10 for x from N(0, 1) with probability Phi(D - ln(1024 S)) --------------
std::vector<Reading> emptied_weights(const Draws& draws) {
  std::vector<Reading> readings;
  for (const auto& [D, S] : {std::pair{6.0, 1.0}, {8.0, 1.0}, {10.0, 256.0}, {8.0, 256.0}}) {
    const auto lost = [D = D, S = S](Rng& rng) { return rounded_to(S * std::exp(rng.normal() - D), Format::e4m3) == 0 ? 1.0 : 0.0; };
    Reading reading = mean_reading(fmt::format("weights lost to 0, D {}, S {}", D, S), cumulative(D - std::log(1024 * S)),
                                   draws.each(lost, std::uint64_t(D + S)));
    if (reading.measured == 0) reading.error = std::sqrt(reading.predicted / double(draws.n));   // none was lost
    readings.push_back(reading);
  }
  return readings;
}

}  // namespace

std::vector<Claim> rounding() {
  return {
      {8, "In float32 the winner's own gradient is exactly 0 past a gap of 24 ln 2", "derived here", float32_death},
      {23, "A fill of -100 leaks when scores are unscaled", "derived here", leaking_fill, "", "d_k",
       "share of rows"},
      {24, "The 1e-9 inside the logarithm biases the entropy of a one-hot row", "derived here", biased_entropy},
      {37, "Sums in bfloat16 are biased once two weights are exactly 1", "arXiv 2510.04212; number derived here",
       biased_sums},
      {38, "Every format has its own dead gap", "derived here, extends 8", dead_gaps},
      {39, "A sink empties the weights in FP8", "arXiv 2606.06521; this variant derived here", emptied_weights}};
}

}  // namespace surgeon::claims
