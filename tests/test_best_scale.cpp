// `surgeon best-scale`: Newton's ascent ends where a fine search finds the largest mean Jacobian.
#include <doctest/doctest.h>

#include <cmath>

#include "framework/diagnostics.hpp"
#include "layers/layers.hpp"
#include "tests/command.hpp"
#include "tests/golden/golden.hpp"

using namespace surgeon;
using namespace surgeon::tests;

namespace {

double searched(const Tensor& scores) {   // [queries, n]
  double best = 0, most = 0;
  for (double scale = 0.3; scale < 12; scale *= 1.002) {
    double norms = 0;
    for (const double x : softmax_jacobian_norm(softmax(scores * scale))) norms += x;
    if (norms > most) most = norms, best = scale;
  }
  return best;
}

}  // namespace

TEST_SUITE("best_scale") {

TEST_CASE("the best scale of independent scores is what a search over scales finds, seed by seed") {
  const Elsewhere e;
  const Said said = surgeon_says({"best-scale", "--keys", "6,24", "--seeds", "3", "--queries", "5", "--rho", "0", "--d-k",
                                  "4", "--json"});
  REQUIRE_MESSAGE(said.exit == 0, said.err);
  const Json all = Json::parse(said.out);
  std::size_t stream = 0;
  for (const std::int64_t n : {6, 24}) {
    double mean = 0;
    for (int seed = 0; seed < 3; ++seed) {
      Rng rng(42, stream++);
      mean += searched(randn({5, n}, rng, Dtype::float64)) / 3;
    }
    bool found = false;
    for (const Json& row : all["rows"])
      if (row["scores"] == "independent scores" && row["keys"] == n && row["law"] == "ln n") {
        CHECK(row["mean"].get<double>() == doctest::Approx(mean).epsilon(0.003));
        CHECK(row["predicted"].get<double>() == doctest::Approx(std::log(double(n))));
        found = true;
      }
    CHECK(found);
  }
}

}
