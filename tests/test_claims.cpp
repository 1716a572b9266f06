// Papers as tests: every claim of the quick table, with a fixed seed, and the integrals that predict them.
#include <doctest/doctest.h>

#include <cmath>
#include <numbers>
#include <set>

#include "experiments/claims.hpp"
#include "experiments/theory.hpp"
#include "tests/command.hpp"
#include "tests/golden/golden.hpp"

using namespace surgeon;
using namespace surgeon::tests;

TEST_SUITE("claims") {

TEST_CASE("the integrals of theory, where there is a closed form") {
  using namespace claims;
  CHECK(gap_density_at_zero(2) == doctest::Approx(1 / std::sqrt(std::numbers::pi)).epsilon(1e-12));
  CHECK(gap_density_at_zero(3) == doctest::Approx(1.5 / std::sqrt(std::numbers::pi)).epsilon(1e-12));   // Phi = 1/2 + odd
  // The gap of two is |N(0, 2)|, of median sqrt(2) * 0.67448975...
  CHECK(median_gap(2) == doctest::Approx(std::numbers::sqrt2 * 0.674489750196082).epsilon(1e-10));
  CHECK(over_normal([](double x) { return std::pow(x, 4); }) == doctest::Approx(3).epsilon(1e-12));
  for (const std::int64_t d : {3, 16, 1024})
    CHECK(over_length(d, [](double r) { return r * r; }) == doctest::Approx(double(d)).epsilon(1e-9));
  // Two scores: p(1-p) is the logistic density at their difference, N(0, 2 s^2).
  for (const double s : {0.05, 0.9, 1.1, 20.0}) {
    const RandomRow row(2, s);
    double expected = 0;   // E[p1 p2], by the midpoint rule
    for (double z = -8.995; z < 9; z += 0.01) {
      const double x = std::numbers::sqrt2 * s * z, p = 1 / (1 + std::exp(-x));
      expected += 0.01 * density(z) * p * (1 - p);
    }
    CHECK(row.moment(1, 1) == doctest::Approx(expected).epsilon(s > 10 ? 1e-3 : 1e-8));
    CHECK(row.purity() == doctest::Approx(1 - 2 * row.moment(1, 1)).epsilon(1e-10));
  }
  for (const double s : {0.3, 3.0}) {   // sums over all keys that must be 1
    const RandomRow row(7, s);
    CHECK(7 * row.moment(1, 0) == doctest::Approx(1).epsilon(1e-10));
    CHECK(row.purity() + 42 * row.moment(1, 1) == doctest::Approx(1).epsilon(1e-10));
  }
  CHECK(frozen_jacobian_square(2) == doctest::Approx(1 / 12.0).epsilon(1e-14));
  CHECK(frozen_jacobian_square(0.9) == 0);
  CHECK(RandomRow(5, 1e-3).lost_entropy() == doctest::Approx(0.5e-6 * 4 / 5).epsilon(1e-5));
}

TEST_CASE("a reading's verdict: within four errors, a bound from one side only, nothing to compare out of range") {
  using namespace claims;
  CHECK(Reading{"", 1.0, 1.39, 0.1}.verdict() == Verdict::agrees);
  CHECK(Reading{"", 1.0, 1.41, 0.1}.verdict() == Verdict::differs);
  CHECK(at_most("", 1.0, -5.0, 0.1).verdict() == Verdict::agrees);
  CHECK(at_most("", 1.0, 1.2, 0.1).verdict() == Verdict::differs);
  CHECK(identity("", 2.0, 2.0, 0.0).verdict() == Verdict::agrees);
  CHECK(identity("", 2.0, 2.1, 0.0).verdict() == Verdict::differs);
  CHECK(Reading{"", 1.0, std::nan(""), 0.1}.verdict() == Verdict::out_of_range);
}

TEST_CASE("means, medians, ratios and slopes of draws with a known law have errors that fit their scatter") {
  using namespace claims;
  std::vector<double> z_mean, z_median, z_slope;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const Draws draws{400, seed, 1};
    const auto normals = draws.each([](Rng& rng) { return 3 + rng.normal(); });
    z_mean.push_back(mean_reading("", 3, normals).z());
    z_median.push_back(median_reading("", 3, normals).z());
    std::vector<std::vector<double>> at;   // means 1, 2, 4 at x = 0, 1, 2: a slope of ln 2
    for (std::uint64_t i = 0; i < 3; ++i)
      at.push_back(draws.each([i](Rng& rng) { return double(1 << i) * (1 + 0.1 * rng.normal()); }, i + 1));
    z_slope.push_back(slope_reading("", std::log(2.0), {0, 1, 2}, at, log_mean).z());
  }
  for (const auto* z : {&z_mean, &z_median, &z_slope}) {
    double squares = 0;
    for (const double x : *z) squares += x * x;
    CHECK(squares / 60 == doctest::Approx(1).epsilon(0.5));   // chi-square of 60: a standard deviation of 0.18
  }
}

TEST_CASE("surgeon claims: the quick table, each verdict as it is known to be") {
  const Elsewhere e;
  const Said said = surgeon_says({"claims", "--preset", "quick", "--json", "--threads", "2"});
  REQUIRE_MESSAGE(said.exit == 0, said.err);
  const Json rows = Json::parse(said.out)["rows"];
  std::set<int> all, differ;
  for (const Json& row : rows) {
    all.insert(row["claim"].get<int>());
    if (row["verdict"] != "agrees") differ.insert(row["claim"].get<int>());
  }
  CHECK(all.size() >= 38);
  CHECK(differ == std::set<int>{5, 9});   // the limit of 5 is far at n = 1000; 9's rival law is wrong at n = 10
  CHECK(std::filesystem::exists("runs/latest/figures/claims.csv"));
}

TEST_CASE("surgeon claims: the same bits for any number of threads; an unknown number is refused with those there are") {
  const Elsewhere e;
  const auto rows = [](const char* threads) {
    return Json::parse(surgeon_says({"claims", "--only", "4,11,31", "--seeds", "40", "--json", "--threads", threads}).out)
        ["rows"].dump();
  };
  CHECK(rows("1") == rows("2"));
  const Said said = surgeon_says({"claims", "--only", "4,99"});
  CHECK(said.exit == 2);
  CHECK(has(said.err, "99"));
  CHECK(has(said.err, "35, 37"));
}

}
