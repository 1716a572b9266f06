// The ledger of the gradient: its factors sum to what arrives, for every mask and rule, and deaths are told apart.
#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "framework/diagnostics.hpp"
#include "layers/layers.hpp"
#include "tests/command.hpp"
#include "tests/golden/golden.hpp"

using namespace surgeon;
using namespace surgeon::tests;

namespace {

constexpr Dtype f64 = Dtype::float64;

Specimen drawn(Rng& rng, std::int64_t Tq, std::int64_t Tk, std::int64_t d_k, std::int64_t d_v) {
  return {.Q = randn({2, 2, Tq, d_k}, rng, f64), .K = randn({2, 2, Tk, d_k}, rng, f64),
          .V = randn({2, 2, Tk, d_v}, rng, f64), .dO = randn({2, 2, Tq, d_v}, rng, f64)};
}

// The norms at the ledger's end are those of autograd, and so is each sum of factors.
void check_ledger(const Ledger& ledger, const Tensor& gradient) {
  const std::vector<double> right = row_norms(gradient);
  REQUIRE(ledger.total.size() == right.size());
  double whole = 0;
  for (const Factor& f : ledger.factors) whole += f.whole;
  if (norm(gradient) == 0) {
    CHECK(std::isinf(whole));
    CHECK(std::isinf(ledger.whole));
  } else {
    CHECK(std::abs(whole - std::log10(norm(gradient))) < 1e-9);
    CHECK(std::abs(whole - ledger.whole) < 1e-9);
  }
  for (std::size_t i = 0; i < right.size(); ++i) {
    if (right[i] == 0) {
      CHECK(std::isinf(ledger.total[i]));
      continue;
    }
    double sum = 0;
    for (const Factor& f : ledger.factors) sum += f.rows[i];
    CHECK(std::abs(sum - std::log10(right[i])) < 1e-6);
    CHECK(std::abs(sum - ledger.total[i]) < 1e-6);
  }
}

void check_head(const Specimen& layer) {
  const Specimen s = one_head(layer, 1, 1);
  const auto batched = [](const Tensor& x) { return unsqueeze(x, 0); };
  const Tensor Q = batched(s.Q), K = batched(s.K), V = batched(s.V);
  const auto [dQ, dK, dV] = grad(attention(Q, K, V, s.options()).output, {Q, K, V}, {.cotangent = batched(s.dO)});
  const auto through = [&](const Tensor& g) { return s.X.empty() ? g[0] : matmul(s.X, g[0], {.transpose_a = true}); };
  const Anatomy a = anatomy(s);
  for (const auto& [ledger, g] : {std::pair{&a.queries, dQ}, {&a.keys, dK}, {&a.values, dV}}) {
    if (s.X.empty()) check_ledger(*ledger, g[0]);
    else CHECK(ledger->whole == doctest::Approx(std::log10(norm(through(g)))).epsilon(1e-9));
  }
}

}  // namespace

TEST_SUITE("anatomy") {

TEST_CASE("the ledger sums to log10 of the gradient's norm, for every shape, mask and score rule") {
  Rng rng(8);
  for (const auto& [Tq, Tk] : {std::pair{1, 1}, {5, 5}, {4, 9}}) {
    Specimen s = drawn(rng, Tq, Tk, 6, 3);
    check_head(s);
    s.scale = false;
    check_head(s);
    s.scale = Scale::log_n(), s.causal = true;
    check_head(s);
    s.soft_cap = 1.5, s.window = 3;
    check_head(s);
    s.bias = randn({2, 1, Tq, Tk}, rng, f64), s.scale = -2.0;
    check_head(s);
    s.mask = randn({1, 2, Tq, Tk}, rng, f64) > 0.0;   // some rows see nothing
    check_head(s);
  }
  Specimen with_input = drawn(rng, 6, 6, 4, 4);
  with_input.X = randn({2, 6, 11}, rng, f64);
  check_head(with_input);
}

TEST_CASE("three deaths are told apart, by the gap of two scores") {
  const auto death_at = [](double gap) {
    const Tensor Q = full({1, 1}, 1.0, f64), K = tensor({{gap}, {0.0}}), V = tensor({{1.0}, {0.0}});
    return anatomy({.Q = Q, .K = K, .V = V, .dO = full({1, 1}, 1.0, f64), .scale = false}).deaths[0];
  };
  CHECK(death_at(2) == Death::alive);
  CHECK(death_at(9) == Death::saturation);       // 2 e^-9 < 1e-3, and float32 has its digits
  CHECK(death_at(20) == Death::cancellation);    // past 24 ln 2 = 16.6 the winner's own gradient is 0
  CHECK(death_at(95) == Death::underflow);       // e^-95 < 2^-126
  CHECK(anatomy({.Q = full({1, 1}, 1.0, f64), .K = full({1, 1}, 1.0, f64), .V = full({1, 1}, 1.0, f64),
                 .dO = full({1, 1}, 1.0, f64)}).deaths[0] == Death::no_choice);
}

TEST_CASE("dW_q, dW_k and dW_v of a layer in a model are the ledger's totals") {
  Rng rng(9);
  TransformerConfig config{.vocabulary = 7, .context = 6, .layers = 1};
  config.block = {.d_model = 8, .heads = 1, .norm_place = NormPlace::post, .dtype = f64};
  const Transformer model(config, rng);
  const Tensor tokens = randint(0, 7, {1, 6}, rng);
  const AttentionWatch watch;
  const Tensor loss = cross_entropy(model(tokens), tokens);
  const Parameters p = model.parameters();
  const auto dW = grad(loss, {p["blocks.0.attention.W_q.weight"], p["blocks.0.attention.W_k.weight"],
                              p["blocks.0.attention.W_v.weight"]});
  const Anatomy a = anatomy(one_head(watch.specimens(model, loss)[0], 0, 0));
  CHECK(a.queries.factors.back().name == "input");
  CHECK(a.queries.whole == doctest::Approx(std::log10(norm(dW[0]))).epsilon(1e-9));
  CHECK(a.keys.whole == doctest::Approx(std::log10(norm(dW[1]))).epsilon(1e-9));
  CHECK(a.values.whole == doctest::Approx(std::log10(norm(dW[2]))).epsilon(1e-9));
}

TEST_CASE("surgeon anatomy: the scale grows the norm and the Jacobian kills the typical query; each table sums") {
  const Elsewhere e;
  const Said said = surgeon_says({"anatomy", "--d-k", "1024", "--draws", "20", "--json"});
  REQUIRE_MESSAGE(said.exit == 0, said.err);
  std::map<std::string, double> sums, totals;
  const Json all = Json::parse(said.out);
  for (const auto& row : all["rows"]) {
    const std::string where = row["layer"].get<std::string>() + row["head"].dump() + row["of"].get<std::string>();
    (row["factor"] == "total" ? totals : sums)[where] += row["decades"].get<double>();
  }
  CHECK(totals.size() == 2 * 20 * 3);
  for (const auto& [where, total] : totals) CHECK(std::abs(sums[where] - total) < 1e-6);
  CHECK(has(said.out, "In unscaled the typical query loses most in the factor \\\"Jacobian\\\""));
  CHECK(surgeon_says({"anatomy", "--draws", "2", "--sequence", "1"}).exit == 2);
}

}
