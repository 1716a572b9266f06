// attention's return_stats: against PyTorch, against the definitions, to order 2, and what it may cost.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "framework/derivatives.hpp"
#include "framework/diagnostics.hpp"
#include "layers/layers.hpp"
#include "tests/golden/golden.hpp"
#include "tests/layer_tools.hpp"
#include "tests/values.hpp"

using namespace surgeon;
using namespace surgeon::tests;

namespace {

const double minus_infinity = -std::numeric_limits<double>::infinity();

// The numbers that make_stats_golden.py uses.
Tensor value(const Shape& shape, double place) {
  return reshape(sin(arange(double(count(shape)), f64) * (0.37 * (1 + 0.1 * place)) + 1.3 * place), shape);
}

AttentionOptions options_of(const Json& o) {
  AttentionOptions options{.return_stats = true, .causal = o.value("causal", false), .window = o.value("window", 0)};
  if (o.contains("scale")) options.scale = Scale(o["scale"].get<double>());
  options.soft_cap = o.value("soft_cap", 0.0);
  if (o.contains("bias")) options.bias = value({5, 6}, 7);
  if (o.contains("mask")) {
    std::vector<unsigned char> seen(30);
    for (std::size_t i = 0; i < 30; ++i) seen[i] = i % 3 != 1 && i / 6 != 2;
    options.mask = tensor(seen, {5, 6});
  }
  return options;
}

std::array<Tensor, 4> in_order(const AttentionStats& s) { return {s.largest, s.logsumexp, s.entropy, s.jacobian}; }

Tensor finite_part(const Tensor& x) { return masked_fill(x, x == minus_infinity, 0.0); }

void check_numbers(const Tensor& found, const Json& expected, double tolerance) {
  const std::vector<double> numbers = list(found);
  REQUIRE(numbers.size() == expected.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (expected[i].is_null()) CHECK(numbers[i] == minus_infinity);
    else CHECK(numbers[i] == doctest::Approx(expected[i].get<double>()).scale(1).epsilon(tolerance));
  }
}

void check_golden(const Json& test, bool weights) {
  CAPTURE(test["options"].dump());
  AttentionOptions options = options_of(test["options"]);
  options.return_weights = weights;
  const Tensor Q = value({2, 2, 5, 4}, 1), K = value({2, 2, 6, 4}, 2);
  const std::array<Tensor, 4> stats = in_order(attention(Q, K, K, options).stats);
  Tensor total = zeros({}, f64);
  for (std::size_t i = 0; i < 4; ++i) {
    check_numbers(stats[i], test["stats"][i], 1e-12);
    total = total + sum(finite_part(stats[i]) * value(stats[i].shape(), 3 + double(i)));
  }
  const auto [dQ, dK] = grad(total, {Q, K});
  check_numbers(dQ, test["dQ"], 1e-9);   // by scale 40 derivatives are products of 40 and rounded differences
  check_numbers(dK, test["dK"], 1e-9);
}

Tensor normal(const Shape& shape, std::uint64_t seed, Dtype dtype = f64) {
  Rng rng(seed);
  return randn(shape, rng, dtype);
}

}  // namespace

TEST_SUITE("attention_stats") {

TEST_CASE("return_stats: numbers and gradients agree with PyTorch in float64, masks, windows and biases included") {
  for (const Json& test : golden_cases("stats.json"))
    for (bool weights : {false, true}) check_golden(test, weights);
}

TEST_CASE("return_stats: what it says are the definitions, block after block, and the output stays as it was") {
  const Tensor Q = normal({3, 300, 8}, 1), K = normal({3, 1500, 8}, 2), V = normal({3, 1500, 4}, 3);
  for (const Dtype dtype : {f64, Dtype::float32}) {
    const Tensor q = Q.to(dtype), k = K.to(dtype), v = V.to(dtype);
    const AttentionResult seen = attention(q, k, v, {.return_weights = true, .causal = true});
    const AttentionResult asked = attention(q, k, v, {.return_stats = true, .causal = true});
    const double tolerance = dtype == f64 ? 1e-13 : 3e-6;
    CHECK(off(asked.output, attention(q, k, v, {.causal = true}).output) == 0);
    CHECK(asked.weights.empty());
    CHECK(asked.stats.entropy.shape() == Shape{3, 300});
    CHECK(off(asked.stats.largest, max(seen.scores, -1)) <= tolerance);
    CHECK(off(asked.stats.logsumexp, logsumexp(seen.scores, -1)) <= 10 * tolerance);
    CHECK(off(asked.stats.entropy, tensor(entropy(seen.weights), {3, 300}).to(dtype)) <= 10 * tolerance);
    CHECK(off(asked.stats.jacobian, tensor(softmax_jacobian_norm(seen.weights), {3, 300}).to(dtype)) <= tolerance);
  }
}

TEST_CASE("return_stats: gradients by blocks are those of the scores themselves") {
  const Tensor Q = normal({2, 300, 4}, 1), K = normal({2, 2500, 4}, 2);
  const auto gradients = [&](bool weights) {
    const auto stats = in_order(attention(Q, K, K, {.return_weights = weights, .return_stats = true}).stats);
    Tensor total = zeros({}, f64);
    for (std::size_t i = 0; i < 4; ++i) total = total + sum(stats[i] * normal(stats[i].shape(), 7 + i));
    return grad(total, {Q, K});
  };
  const auto by_blocks = gradients(false), at_once = gradients(true);
  for (std::size_t i = 0; i < 2; ++i) CHECK(off(by_blocks[i], at_once[i]) <= 1e-11 * max(abs(at_once[i])).item());
}

TEST_CASE("return_stats: derivatives to order 2, by Q, K, a bias and a learned scale, dead rows included") {
  const Tensor mask = tensor({true, true, false, false, false, false, true, false, true}, {3, 3});
  for (int part = 0; part < 4; ++part) {
    CAPTURE(part);
    const auto f = [&](const std::vector<Tensor>& x) {
      const AttentionOptions options{.mask = mask, .scale = x[3], .return_stats = true, .bias = x[2]};
      return finite_part(in_order(attention(x[0], x[1], x[1], options).stats)[std::size_t(part)]);
    };
    const GradcheckResult found = gradcheck(
        f, {normal({2, 3, 4}, 1), normal({2, 3, 4}, 2), normal({3, 3}, 3), tensor({0.7}, {1})}, {.order = 2});
    CHECK_MESSAGE(bool(found), found.message);
  }
}

TEST_CASE("return_stats: a query that sees nothing has -inf, -inf, 0, 0 and gradients exactly 0") {
  const Tensor Q = normal({1, 2, 3}, 1), K = normal({1, 3, 3}, 2);
  const Tensor mask = tensor({true, true, false, false, false, false}, {2, 3});
  for (bool weights : {false, true}) {
    const AttentionStats s =
        attention(Q, K, K, {.mask = mask, .return_weights = weights, .return_stats = true}).stats;
    CHECK(s.largest.at({0, 1}) == minus_infinity);
    CHECK(s.logsumexp.at({0, 1}) == minus_infinity);
    CHECK(s.entropy.at({0, 1}) == 0);
    CHECK(s.jacobian.at({0, 1}) == 0);
    for (const Tensor& x : in_order(s)) {
      const auto [dQ] = grad(sum(x), {Q});
      CHECK(all_finite(dQ));
      CHECK(norm(dQ[0][1]) == 0);
    }
  }
}

TEST_CASE("return_stats: a nan that the mask hides is not seen, one that it does not hide is") {
  Tensor K = normal({1, 3, 3}, 2);
  K = concat({slice(K, 1, 0, 2), full({1, 1, 3}, std::nan(""), f64)}, 1);
  const Tensor Q = normal({1, 3, 3}, 1), V = normal({1, 3, 3}, 3);
  const AttentionStats s = attention(Q, K, V, {.return_stats = true, .causal = true}).stats;
  for (const Tensor& x : in_order(s)) {
    CHECK(all_finite(slice(x, 1, 0, 2)));
    CHECK(std::isnan(x.at({0, 2})));
  }
}

TEST_CASE("return_stats: digits survive where a row is all but one-hot") {
  const Tensor scores = tensor({0.0, -100.0, -100.0}, {1, 3});
  const ScoreRow row = score_rows(scores)[0];
  CHECK(row.logsumexp == doctest::Approx(2 * std::exp(-100.0)).epsilon(1e-14));
  CHECK(row.entropy == doctest::Approx(202 * std::exp(-100.0)).epsilon(1e-14));
  CHECK(row.jacobian == doctest::Approx(std::sqrt(6.0) * std::exp(-100.0)).epsilon(1e-14));
}

TEST_CASE("return_stats: MultiHeadAttention gives a row for each head, and the same as with weights") {
  Rng rng(4);
  const MultiHeadAttention mha(12, 3, {.kv_heads = 1, .rotary_base = 100.0}, rng, f64);
  const Tensor x = normal({2, 5, 12}, 5);
  const auto lean = in_order(mha(x, {.return_stats = true, .causal = true}).stats);
  const auto full = in_order(mha(x, {.return_weights = true, .return_stats = true, .causal = true}).stats);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(lean[i].shape() == Shape{6, 5});
    CHECK(off(lean[i], full[i]) <= 1e-14);
  }
}

TEST_CASE("return_stats: refused where softmax is not what makes the weights; empty unless asked for") {
  const Tensor Q = normal({1, 2, 3}, 1);
  CHECK_THROWS_AS(attention(Q, Q, Q, {.return_stats = true, .weighting = Weighting::sigmoid}), std::invalid_argument);
  CHECK(attention(Q, Q, Q).stats.entropy.empty());
  const auto [output, weights, scores] = attention(Q, Q, Q, {.return_weights = true, .return_stats = true});
  CHECK(scores.shape() == weights.shape());
}

}
