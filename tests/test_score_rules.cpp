// Every score rule of attention: against the formula written as loops, its gradients to order 2, and what masks must
// keep out.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "framework/framework.hpp"
#include "layers/attention.hpp"
#include "layers/masks.hpp"

using namespace surgeon;

namespace {

const double nan_value = std::numeric_limits<double>::quiet_NaN();
const double minus_infinity = -std::numeric_limits<double>::infinity();

struct Sizes { std::int64_t batch = 2, heads = 4, kv_heads = 4, Tq = 5, Tk = 6, d_k = 3, d_v = 2; };

struct Inputs3 { Tensor Q, K, V; };
Inputs3 draw(const Sizes& s, std::uint64_t seed = 7, Dtype dtype = Dtype::float64) {
  Rng rng(seed);
  return {randn({s.batch, s.heads, s.Tq, s.d_k}, rng, dtype), randn({s.batch, s.kv_heads, s.Tk, s.d_k}, rng, dtype),
          randn({s.batch, s.kv_heads, s.Tk, s.d_v}, rng, dtype)};
}

// A rule, and what one score and one row of weights are by it. s: q . k after normalisation.
struct Rule {
  std::string name;
  AttentionOptions options = {};
  std::function<double(double s, std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j)> score;
  std::function<bool(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j)> sees =
      [](auto, auto, auto, auto) { return true; };
};

constexpr double d_k = 3, Tk = 6;

Tensor bias_5x6() {
  Rng rng(3);
  return randn({4, 5, 6}, rng, Dtype::float64);
}

std::vector<Rule> rules() {
  const double root = std::sqrt(d_k);
  const auto plain = [=](double s, auto, auto, auto, auto) { return s / root; };
  const Tensor learned = tensor({0.3, -0.7, 1.1, 2.0}, {4});
  const Tensor bias = bias_5x6();
  const Tensor padding = reshape(padding_mask({6, 2}, 6), {2, 1, 1, 6});
  std::vector<Rule> all{
      {"the notebook's", {}, plain},
      {"no scale", {.scale = false}, [](double s, auto, auto, auto, auto) { return s; }},
      {"1/d_k", {.scale = Scale::inverse()}, [](double s, auto, auto, auto, auto) { return s / d_k; }},
      {"a number", {.scale = -0.45}, [](double s, auto, auto, auto, auto) { return -0.45 * s; }},
      {"log-n", {.scale = Scale::log_n()}, [=](double s, auto, auto, auto, auto) { return s * std::log(Tk) / root; }},
      {"learned", {.scale = learned}, [=](double s, auto, auto h, auto, auto) { return s * learned.at({h}); }},
      {"soft-cap", {.soft_cap = 0.8},
       [=](double s, auto, auto, auto, auto) { return 0.8 * std::tanh(s / root / 0.8); }},
      {"bias", {.bias = bias}, [=](double s, auto, auto h, auto i, auto j) { return s / root + bias.at({h, i, j}); }},
      {"cap, then bias", {.bias = bias, .soft_cap = 1.5},
       [=](double s, auto, auto h, auto i, auto j) { return 1.5 * std::tanh(s / root / 1.5) + bias.at({h, i, j}); }},
      {"QK-norm l2", {.scale = 4.0, .qk_norm = QkNorm::l2}, [](double s, auto, auto, auto, auto) { return 4.0 * s; }},
      {"QK-norm rms", {.qk_norm = QkNorm::rms}, [=](double s, auto, auto, auto, auto) { return s / root; }},
      {"off by one", {.weighting = Weighting::off_by_one}, plain},
      {"sigmoid", {.weighting = Weighting::sigmoid}, plain},
      {"sigmoid with a bias", {.weighting = Weighting::sigmoid, .sigmoid_bias = 0.25}, plain},
      {"causal", {.causal = true}, plain, [](auto, auto, auto i, auto j) { return j <= i + 1; }},
      {"window", {.window = 2}, plain, [](auto, auto, auto i, auto j) { return std::abs(i + 1 - j) < 2; }},
      {"causal window", {.causal = true, .window = 3}, plain,
       [](auto, auto, auto i, auto j) { return j <= i + 1 && i + 1 - j < 3; }},
      {"padding", {.mask = padding}, plain, [](auto b, auto, auto, auto j) { return b == 0 || j < 2; }},
      {"padding and causal", {.mask = padding, .causal = true}, plain,
       [](auto b, auto, auto i, auto j) { return (b == 0 || j < 2) && j <= i + 1; }},
  };
  for (const Weighting weighting : {Weighting::softmax, Weighting::off_by_one, Weighting::sigmoid}) {
    Rule everything = all[8];
    everything.name = "all at once, weighting " + std::to_string(int(weighting));
    everything.options.weighting = weighting;
    everything.options.scale = learned;
    everything.options.qk_norm = QkNorm::l2;
    everything.options.mask = padding;
    everything.options.window = 2;
    everything.score = [=](double s, auto, auto h, auto i, auto j) {
      return 1.5 * std::tanh(s * learned.at({h}) / 1.5) + bias.at({h, i, j});
    };
    everything.sees = [](auto b, auto, auto i, auto j) { return (b == 0 || j < 2) && std::abs(i + 1 - j) < 2; };
    all.push_back(everything);
  }
  return all;
}

struct Expected { std::vector<double> scores, weights, output; };

double norm_of(const Tensor& x, std::int64_t b, std::int64_t h, std::int64_t t, QkNorm kind) {
  double squares = 0;
  for (std::int64_t c = 0; c < x.shape(-1); ++c) squares += x.at({b, h, t, c}) * x.at({b, h, t, c});
  if (kind == QkNorm::none) return 1.0;
  const double rms = std::sqrt(squares / d_k + 1e-12);
  return kind == QkNorm::l2 ? rms * std::sqrt(d_k) : rms;
}

std::vector<double> row_of_weights(const std::vector<double>& scores, const AttentionOptions& options) {
  std::vector<double> weights;
  if (options.weighting == Weighting::sigmoid) {
    const double b = options.sigmoid_bias.value_or(-std::log(double(scores.size())));
    for (const double s : scores) weights.push_back(1.0 / (1.0 + std::exp(-(s + b))));
    return weights;
  }
  double sum = options.weighting == Weighting::off_by_one ? 1.0 : 0.0;
  for (const double s : scores) sum += std::exp(s);
  for (const double s : scores) weights.push_back(sum > 0.0 ? std::exp(s) / sum : 0.0);
  return weights;
}

Expected by_loops(const Inputs3& in, const Rule& rule) {
  Expected e;
  const std::int64_t group = in.Q.shape(1) / in.K.shape(1);
  for (std::int64_t b = 0; b < in.Q.shape(0); ++b)
    for (std::int64_t h = 0; h < in.Q.shape(1); ++h)
      for (std::int64_t i = 0; i < in.Q.shape(2); ++i) {
        std::vector<double> scores;
        for (std::int64_t j = 0; j < in.K.shape(2); ++j) {
          double s = 0;
          for (std::int64_t c = 0; c < in.Q.shape(3); ++c) s += in.Q.at({b, h, i, c}) * in.K.at({b, h / group, j, c});
          const QkNorm kind = rule.options.qk_norm;
          s /= norm_of(in.Q, b, h, i, kind) * norm_of(in.K, b, h / group, j, kind);
          scores.push_back(rule.sees(b, h, i, j) ? rule.score(s, b, h, i, j) : minus_infinity);
        }
        const std::vector<double> weights = row_of_weights(scores, rule.options);
        e.scores.insert(e.scores.end(), scores.begin(), scores.end());
        e.weights.insert(e.weights.end(), weights.begin(), weights.end());
        for (std::int64_t c = 0; c < in.V.shape(3); ++c) {
          double y = 0;
          for (std::int64_t j = 0; j < in.K.shape(2); ++j)
            y += weights[static_cast<std::size_t>(j)] * in.V.at({b, h / group, j, c});
          e.output.push_back(y);
        }
      }
  return e;
}

double distance(const Tensor& x, const std::vector<double>& expected) {
  REQUIRE(x.size() == std::ssize(expected));
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double got = x.values<double>()[i];
    if (got == expected[i]) continue;   // infinities
    const double off = std::abs(got - expected[i]);
    worst = std::isnan(off) ? off : std::max(worst, off);
    if (std::isnan(off)) break;
  }
  return worst;
}

bool finite(const Tensor& x) { return std::isfinite(sum(x * 0.0).item()); }
bool all_zero(const Tensor& x) { return max(abs(x)).item() == 0.0; }

}  // namespace

TEST_SUITE("score_rules") {

TEST_CASE("each rule is its formula, with and without weights") {
  const Inputs3 in = draw({});
  for (Rule& rule : rules()) {
    CAPTURE(rule.name);
    const Expected expected = by_loops(in, rule);
    CHECK(distance(attention(in.Q, in.K, in.V, rule.options).output, expected.output) < 1e-12);
    rule.options.return_weights = true;
    const AttentionResult result = attention(in.Q, in.K, in.V, rule.options);
    CHECK(distance(result.output, expected.output) < 1e-12);
    CHECK(distance(result.weights, expected.weights) < 1e-12);
    CHECK(distance(result.scores, expected.scores) < 1e-11);
  }
}

TEST_CASE("each rule with fewer heads of keys than of queries") {
  for (const std::int64_t kv_heads : {1, 2}) {
    Sizes sizes;
    sizes.kv_heads = kv_heads;
    const Inputs3 in = draw(sizes, 11);
    for (const Rule& rule : rules()) {
      CAPTURE(rule.name);
      CHECK(distance(attention(in.Q, in.K, in.V, rule.options).output, by_loops(in, rule).output) < 1e-12);
    }
  }
}

TEST_CASE("each rule's gradients are right to order 2") {
  const Inputs3 in = draw({.batch = 2, .heads = 4, .kv_heads = 2}, 5);
  for (const Rule& rule : rules()) {
    for (const bool return_weights : {false, true}) {
      AttentionOptions options = rule.options;
      options.return_weights = return_weights;
      std::vector<Tensor> inputs{in.Q, in.K, in.V};
      const bool learned = options.scale.learned().defined(), biased = options.bias.defined();
      if (learned) inputs.push_back(options.scale.learned());
      if (biased) inputs.push_back(options.bias);
      const GradcheckResult result = gradcheck(
          [=](const std::vector<Tensor>& x) {
            AttentionOptions o = options;
            if (learned) o.scale = x[3];
            if (biased) o.bias = x[learned ? 4 : 3];
            return attention(x[0], x[1], x[2], o).output;
          },
          inputs, {.order = 2});
      CHECK_MESSAGE(result.passed, rule.name, ": ", result.message);
    }
  }
}

TEST_CASE("the weights' and the scores' own gradients can be asked for, under every rule") {
  const Inputs3 in = draw({});
  for (Rule& rule : rules()) {
    CAPTURE(rule.name);
    rule.options.return_weights = true;
    const AttentionResult result = attention(in.Q, in.K, in.V, rule.options);
    const auto [dw, ds] = grad(sum(result.output * result.output), {result.weights, result.scores});
    CHECK(dw.shape() == result.weights.shape());
    CHECK(finite(ds));
    for (std::int64_t i = 0; i < ds.size(); ++i)
      if (std::isinf(result.scores.values<double>()[std::size_t(i)])) CHECK(ds.values<double>()[std::size_t(i)] == 0.0);
  }
}

TEST_CASE("a row that the mask kills is zero everywhere, to second order, under every weighting") {
  const Inputs3 in = draw({.kv_heads = 2});
  const std::vector<unsigned char> allowed{1, 0, 1, 0, 1, 0,  0, 0, 0, 0, 0, 0,  1, 1, 1, 1, 1, 1,
                                           0, 0, 0, 0, 0, 0,  0, 0, 0, 0, 1, 0};
  const Tensor mask = tensor(allowed, {5, 6});
  for (const Weighting weighting : {Weighting::softmax, Weighting::off_by_one, Weighting::sigmoid})
    for (const QkNorm norm : {QkNorm::none, QkNorm::l2})
      for (const bool return_weights : {false, true}) {
        const AttentionOptions options{
            .mask = mask, .return_weights = return_weights, .qk_norm = norm, .weighting = weighting};
        const AttentionResult result = attention(in.Q, in.K, in.V, options);
        for (const std::int64_t row : {1, 3}) {
          CHECK(all_zero(slice(result.output, 2, row, row + 1)));
          if (return_weights) CHECK(all_zero(slice(result.weights, 2, row, row + 1)));
        }
        const auto [dQ, dK, dV] = grad(sum(result.output * result.output), {in.Q, in.K, in.V}, {.create_graph = true});
        for (const std::int64_t row : {1, 3}) CHECK(all_zero(slice(dQ, 2, row, row + 1)));
        const auto [ddQ, ddK, ddV] = grad(sum(dQ * dQ) + sum(dK * dK) + sum(dV * dV), {in.Q, in.K, in.V});
        for (const Tensor& x : {dQ, dK, dV, ddQ, ddK, ddV}) CHECK(finite(x));
        for (const std::int64_t row : {1, 3}) CHECK(all_zero(slice(ddQ, 2, row, row + 1)));
      }
}

// x with `value` in the row [batch 0, head 0, t] and what the same without it would be.
Tensor with_row(const Tensor& x, std::int64_t t, double value) {
  std::vector<double> values(x.values<double>().begin(), x.values<double>().end());
  std::fill_n(values.begin() + t * x.shape(-1), x.shape(-1), value);
  return tensor(values, x.shape());
}

TEST_CASE("a masked nan or infinity changes neither output nor gradients") {
  const Inputs3 in = draw({.kv_heads = 4});
  std::vector<unsigned char> allowed(30, 1);
  for (std::size_t i = 0; i < 5; ++i) allowed[6 * i + 2] = 0;    // nobody sees key 2
  for (std::size_t j = 0; j < 6; ++j) allowed[6 * 3 + j] = 0;    // query 3 sees nothing
  const Tensor mask = tensor(allowed, {5, 6});
  for (const QkNorm norm : {QkNorm::none, QkNorm::rms})
    for (const double bad : {nan_value, std::numeric_limits<double>::infinity()})
      for (const bool return_weights : {false, true}) {
        const AttentionOptions options{.mask = mask, .return_weights = return_weights, .qk_norm = norm};
        const Inputs3 poisoned{with_row(in.Q, 3, bad), with_row(in.K, 2, bad), with_row(in.V, 2, bad)};
        const Inputs3 clean{with_row(in.Q, 3, 0.0), with_row(in.K, 2, 0.0), with_row(in.V, 2, 0.0)};
        const auto run = [&](const Inputs3& x) {
          const Tensor y = attention(x.Q, x.K, x.V, options).output;
          const auto [dQ, dK, dV] = grad(sum(y * y), {x.Q, x.K, x.V}, {.create_graph = true});
          const auto [ddQ, ddK, ddV] = grad(sum(dQ * dQ) + sum(dK * dK) + sum(dV * dV), {x.Q, x.K, x.V});
          return std::vector<Tensor>{y, dQ, dK, dV, ddQ, ddK, ddV};
        };
        const std::vector<Tensor> a = run(poisoned), b = run(clean);
        for (std::size_t i = 0; i < a.size(); ++i) {
          CAPTURE(i);
          CHECK(finite(a[i]));
          CHECK(max(abs(a[i] - b[i])).item() < 1e-12);
        }
      }
}

TEST_CASE("a nan poisons the queries that see it, and no others") {
  const Inputs3 in = draw({.batch = 1, .heads = 1, .kv_heads = 1, .Tq = 6});
  for (const bool in_key : {false, true})
    for (const bool return_weights : {false, true}) {
      const Tensor K = in_key ? with_row(in.K, 3, nan_value) : in.K;
      const Tensor V = in_key ? in.V : with_row(in.V, 3, nan_value);
      const AttentionOptions options{.mask = causal_mask(6), .return_weights = return_weights};
      const Tensor y = attention(in.Q, K, V, options).output;
      const Tensor clean = attention(in.Q, in.K, in.V, options).output;
      for (std::int64_t i = 0; i < 6; ++i)
        for (std::int64_t c = 0; c < 2; ++c) {
          if (i < 3) CHECK(y.at({0, 0, i, c}) == clean.at({0, 0, i, c}));
          else CHECK(std::isnan(y.at({0, 0, i, c})));
        }
      const auto [dQ, dV] = grad(sum(y), {in.Q, V});
      CHECK(finite(slice(dQ, 2, 0, 3)));
      CHECK(std::isnan(dQ.at({0, 0, 3, 0})));
      CHECK(finite(dV) == !in_key);   // a product has no factor V in its derivative to V
    }
}

TEST_CASE("a nan that comes back with the gradient of one row stays with what that row sees") {
  const Inputs3 in = draw({.batch = 1, .heads = 1, .kv_heads = 1, .Tq = 6});
  for (const bool return_weights : {false, true}) {
    const Tensor y = attention(in.Q, in.K, in.V, {.mask = causal_mask(6), .return_weights = return_weights}).output;
    const Tensor g = with_row(ones_like(y), 2, nan_value);   // row 2 sees keys 0 .. 2
    const auto [dQ, dK, dV] = grad(y, {in.Q, in.K, in.V}, {.cotangent = g});
    CHECK(finite(slice(dK, 2, 3)));
    CHECK(finite(slice(dV, 2, 3)));
    CHECK(std::isnan(dV.at({0, 0, 0, 0})));
    CHECK(finite(slice(dQ, 2, 3)));
    CHECK(finite(slice(dQ, 2, 0, 2)));
  }
}

TEST_CASE("boolean and float masks say the same, and other values are refused") {
  const Inputs3 in = draw({.Tq = 6});
  const Tensor boolean = causal_mask(6);
  const Tensor a = attention(in.Q, in.K, in.V, {.mask = boolean}).output;
  for (const Dtype dtype : {Dtype::float32, Dtype::float64})
    CHECK(all_zero(a - attention(in.Q, in.K, in.V, {.mask = boolean.to(dtype)}).output));
  CHECK(all_zero(a - attention(in.Q, in.K, in.V, {.causal = true}).output));
  for (const double bad : {0.5, -1.0, nan_value})
    CHECK_THROWS_WITH_AS(attention(in.Q, in.K, in.V, {.mask = full({6, 6}, bad, Dtype::float64)}),
                         doctest::Contains("attention: the mask holds"), std::invalid_argument);
  CHECK_THROWS_WITH_AS(attention(in.Q, in.K, in.V, {.mask = full({6, 6}, 1, Dtype::int64)}),
                       doctest::Contains("a mask of booleans or of floats 0 and 1, not int64"), std::invalid_argument);
}

TEST_CASE("bad calls are refused with one sentence") {
  const Inputs3 in = draw({});
  const auto refused = [&](const AttentionOptions& options, const char* says) {
    CHECK_THROWS_WITH_AS(attention(in.Q, in.K, in.V, options), doctest::Contains(says), std::invalid_argument);
  };
  refused({.mask = causal_mask(5)}, "a mask [5, 5] does not fit scores [2, 4, 5, 6]");
  refused({.mask = full({2, 5, 6}, 1, Dtype::boolean)}, "a mask [2, 5, 6] does not fit scores [2, 4, 5, 6]");
  refused({.soft_cap = -1.0}, "soft_cap = -1");
  refused({.window = -1}, "window = -1");
  refused({.dropout = 1.5}, "dropout = 1.5");
  refused({.scale = nan_value}, "scale = nan");
  refused({.scale = tensor({1.0, 2.0}, {2})}, "a learned scale [2]");
  refused({.bias = zeros({7}, Dtype::float64)}, "a bias [7] does not fit");
  refused({.bias = zeros({1})}, "the bias is float32");
  const auto refused_inputs = [&](const Shape& q, const Shape& k, const Shape& v, const char* says) {
    CHECK_THROWS_WITH_AS(attention(zeros(q), zeros(k), zeros(v)), doctest::Contains(says), std::invalid_argument);
  };
  refused_inputs({2, 5, 8}, {2, 6, 7}, {2, 6, 8},
                 "attention: Q [2, 5, 8], K [2, 6, 7], V [2, 6, 8]: d_k 8 of Q and 7 of K differ");
  refused_inputs({2, 5, 8}, {3, 6, 8}, {2, 6, 8}, "batch sizes 2, 3 and 2 differ");
  refused_inputs({2, 5, 8}, {2, 6, 8}, {2, 5, 8}, "6 keys but 5 values");
  refused_inputs({2, 5, 0}, {2, 6, 0}, {2, 6, 8}, "d_k is 0");
  refused_inputs({2, 5, 8}, {2, 0, 8}, {2, 0, 8}, "there are no keys");
  refused_inputs({5, 8}, {6, 8}, {6, 8}, "all must be [batch, T, d]");
  refused_inputs({2, 4, 5, 8}, {2, 3, 6, 8}, {2, 3, 6, 8}, "3 heads of keys do not divide 4");
  CHECK_THROWS_WITH_AS(attention(zeros({1, 2, 3}), zeros({1, 2, 3}, Dtype::float64), zeros({1, 2, 3})),
                       doctest::Contains("float32, float64 and float32"), std::invalid_argument);
  CHECK_THROWS_AS(attention(Tensor(), in.K, in.V), std::invalid_argument);
}

TEST_CASE("dropout zeroes weights and keeps their mean, only where there are random numbers") {
  const Inputs3 in = draw({.batch = 8, .Tq = 20, .Tk = 20});
  const Tensor plain = attention(in.Q, in.K, in.V).output;
  CHECK(all_zero(plain - attention(in.Q, in.K, in.V, {.dropout = 0.5}).output));
  Rng rng(1);
  AttentionOptions options{.dropout = 0.5, .rng = &rng};
  const Tensor V = ones({8, 4, 20, 1}, Dtype::float64);   // the output is then the row sum of what is left
  Rng again(1);
  const Tensor sums = attention(in.Q, in.K, V, options).output;
  options.rng = &again;
  options.return_weights = true;
  const AttentionResult kept = attention(in.Q, in.K, V, options);
  CHECK(all_zero(kept.output - sums));
  CHECK(mean(sums).item() == doctest::Approx(1.0).epsilon(0.05));
  CHECK(var(sums).item() > 0.01);
  CHECK(max(abs(sum(kept.weights, -1) - 1.0)).item() < 1e-12);   // the weights returned are those before dropout
}

TEST_CASE("off by one: when all scores go to -inf a head attends to nothing; softmax cannot") {
  const Tensor Q = full({1, 1, 1}, 1e3, Dtype::float64), K = full({1, 4, 1}, -1.0, Dtype::float64);
  const Tensor V = ones({1, 4, 1}, Dtype::float64);
  CHECK(attention(Q, K, V, {.weighting = Weighting::off_by_one}).output.item() == 0.0);
  CHECK(attention(Q, K, V).output.item() == doctest::Approx(1.0));
}

TEST_CASE("masks") {
  const auto rows = [](const Tensor& mask) {
    std::string text;
    for (const bool seen : mask.values<bool>()) text += seen ? '1' : '0';
    return text;
  };
  CHECK(rows(causal_mask(3)) == "100110111");
  CHECK(rows(reverse_mask(3)) == "111011001");
  CHECK(rows(no_mask(2)) == "1111");
  CHECK(rows(window_mask(4, 2)) == "1000110001100011");
  CHECK(rows(padding_mask({2, 0, 3}, 3)) == "110000111");
  CHECK(padding_mask({2, 0, 3}, 3).shape() == Shape{3, 1, 3});
  CHECK(rows(both(causal_mask(3), reverse_mask(3))) == "100010001");
  CHECK(both(causal_mask(3), padding_mask({2, 0}, 3)).shape() == Shape{2, 3, 3});
  CHECK_THROWS_AS(causal_mask(-1), std::invalid_argument);
  CHECK_THROWS_AS(window_mask(3, 0), std::invalid_argument);
  CHECK_THROWS_AS(padding_mask({4}, 3), std::invalid_argument);
}

TEST_CASE("ALiBi takes away the same for a key as far ahead as for one as far behind") {
  const Tensor bias = alibi_bias(4, 5, Dtype::float64);
  CHECK(all_zero(bias - transpose(bias, -1, -2)));
  CHECK(max(bias).item() == 0.0);
  CHECK(bias.at({1, 0, 3}) == -0.0625 * 3);
}

TEST_CASE("both takes masks of floats too, and refuses what is not a mask") {
  CHECK(all_zero((both(causal_mask(3).to(Dtype::float32), reverse_mask(3)) != both(causal_mask(3), reverse_mask(3)))
                     .to(Dtype::float64)));
  CHECK_THROWS_WITH_AS(both(full({3, 3}, 0.5), causal_mask(3)), "both: the mask holds 0.5, not 0 or 1",
                       std::invalid_argument);
}

// ---- Anomaly -------------------------------------------------------------------------------------------------------

TEST_CASE("Anomaly is silent around every rule, whatever is masked, asked for or watched") {
  Inputs3 in = draw({});
  for (const bool padded : {false, true}) {
    std::vector<Rule> all = rules();
    const Tensor padding = reshape(padding_mask({5, 2}, 6), {2, 1, 1, 6});
    if (padded) in.K = concat({slice(in.K, 2, 0, 5), full({2, 4, 1, 3}, nan_value, Dtype::float64)}, 2);
    for (Rule& rule : all)
      for (const bool keep : {false, true})
        for (const bool watched : {false, true}) {
          CAPTURE(rule.name);
          CAPTURE(padded);
          if (padded) rule.options.mask = padding;
          if (padded && rule.options.qk_norm != QkNorm::none) continue;   // a nan is normalised before it is masked
          rule.options.return_weights = keep;
          const Anomaly watch;
          const Probe look(watched ? "scores" : "nothing");
          CHECK_NOTHROW([&] {
            const Tensor y = attention(in.Q, in.K, in.V, rule.options).output;
            const auto [dQ] = grad(sum(y * y), {in.Q}, {.create_graph = true});
            grad(sum(dQ * dQ), {in.Q, in.V});
          }());
        }
  }
}

TEST_CASE("Anomaly finds a score that overflows although others are masked") {
  const Tensor Q = full({1, 3, 2}, 1e30, Dtype::float32), K = full({1, 3, 2}, 1e30, Dtype::float32);
  const Anomaly watch;
  CHECK_THROWS_WITH_AS(attention(Q, K, K, {.mask = causal_mask(3), .return_weights = true}),
                       doctest::Contains("masked_scores gave inf"), AnomalyError);
}

TEST_CASE("ALiBi's slopes are the paper's, also for heads that are no power of two") {
  const Tensor eight = alibi_bias(8, 3, Dtype::float64);
  for (std::int64_t h = 0; h < 8; ++h) CHECK(eight.at({h, 2, 0}) == -2.0 * std::exp2(-double(h + 1)));
  const Tensor six = alibi_bias(6, 2, Dtype::float64);   // those of 4 heads, then the first and third of 8
  const double slopes[] = {0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125};
  for (std::int64_t h = 0; h < 6; ++h) CHECK(six.at({h, 1, 0}) == -slopes[h]);
}

}
