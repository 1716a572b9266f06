// Layers: what each computes, what its parameters are called and how they start, and that gradients reach all of them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>
#include <vector>

#include "framework/optim.hpp"
#include "layers/layers.hpp"

using namespace surgeon;

namespace {

constexpr Dtype f64 = Dtype::float64;

double off(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  return a.size() == 0 ? 0.0 : max(abs(a - b)).item();
}

std::string names(const Parameters& parameters) {
  std::string all;
  for (const auto& [name, tensor] : parameters) all += name + to_string(tensor.shape()) + " ";
  return all;
}

Tensor tokens(const Shape& shape, std::int64_t vocabulary, std::uint64_t seed = 3) {
  Rng rng(seed);
  return randint(0, vocabulary, shape, rng);
}

TransformerConfig tiny() {
  TransformerConfig config{.vocabulary = 7, .context = 5, .layers = 2};
  config.block = {.d_model = 4, .heads = 2, .hidden = 6, .dtype = f64};
  return config;
}

// Parameters pushed off the places where a gradient would be 0 by chance: gains of 1, biases of 0.
void shake(const Parameters& parameters, double by = 0.3) {
  Rng rng(99);
  for (const auto& [name, value] : parameters) {
    Tensor parameter = value;
    parameter.assign((value + randn(value.shape(), rng, value.dtype()) * by).detach());
  }
}

}  // namespace

TEST_SUITE("layers") {

TEST_CASE("Linear: x W^T + b, uniform in +-1/sqrt(in) at first") {
  Rng rng(1);
  const Linear layer(100, 50, rng, f64);
  CHECK(names(layer.parameters()) == "weight[50, 100] bias[50] ");
  CHECK(max(abs(layer.weight)).item() <= 0.1);
  CHECK(var(layer.weight).item() == doctest::Approx(0.01 / 3).epsilon(0.05));
  CHECK(mean(layer.weight).item() == doctest::Approx(0.0).scale(0.1).epsilon(0.02));
  const Tensor x = randn({2, 3, 100}, rng, f64);
  CHECK(off(layer(x), matmul(x, transpose(layer.weight, 0, 1)) + layer.bias) < 1e-13);
  CHECK(names(Linear(3, 2, rng, f64, false).parameters()) == "weight[2, 3] ");
  CHECK_THROWS_WITH_AS(Linear(0, 2, rng), doctest::Contains("in = 0"), std::invalid_argument);
}

TEST_CASE("one seed gives one model, and float32 is float64 rounded") {
  Rng a(5), b(5), c(5);
  const MultiHeadAttention one(8, 2, a), two(8, 2, b), wide(8, 2, c, f64);
  CHECK(off(one.W_o.weight, two.W_o.weight) == 0.0);
  CHECK(off(one.W_o.weight.to(f64), wide.W_o.weight) < 1e-7);
}

TEST_CASE("MultiHeadAttention is attention in each head between four projections") {
  Rng rng(2);
  const MultiHeadAttention layer(64, 8, rng, f64);
  CHECK(layer.parameters().count() == 16640);
  CHECK(names(layer.parameters()) ==
        "W_q.weight[64, 64] W_q.bias[64] W_k.weight[64, 64] W_k.bias[64] W_v.weight[64, 64] W_v.bias[64] "
        "W_o.weight[64, 64] W_o.bias[64] ");
  const Tensor x = randn({2, 10, 64}, rng, f64);
  const AttentionResult result = layer(x, {.mask = causal_mask(10), .return_weights = true});
  CHECK(result.weights.shape() == Shape{16, 10, 10});
  std::vector<Tensor> heads;
  for (std::int64_t h = 0; h < 8; ++h) {
    const auto part = [&](const Linear& W) { return slice(W(x), 2, 8 * h, 8 * h + 8); };
    const AttentionResult head =
        attention(part(layer.W_q), part(layer.W_k), part(layer.W_v), {.mask = causal_mask(10), .return_weights = true});
    heads.push_back(head.output);
    for (std::int64_t b = 0; b < 2; ++b)
      CHECK(off(slice(result.weights, 0, 8 * b + h, 8 * b + h + 1), slice(head.weights, 0, b, b + 1)) < 1e-13);
  }
  CHECK(off(result.output, layer.W_o(concat(heads, -1))) < 1e-12);
  CHECK(off(result.output, layer(x, {.mask = causal_mask(10)}).output) < 1e-12);
}

TEST_CASE("MultiHeadAttention: the weights and scores handed out lie on the path to the output") {
  Rng rng(2);
  const MultiHeadAttention layer(8, 2, rng, f64);
  const Tensor x = randn({3, 4, 8}, rng, f64);
  const AttentionResult result = layer(x, {.return_weights = true});
  const auto [dw, ds, dx] = grad(sum(result.output * result.output), {result.weights, result.scores, x});
  CHECK(dw.shape() == Shape{6, 4, 4});
  CHECK(max(abs(ds)).item() > 0.0);
}

TEST_CASE("MultiHeadAttention: a mask per batch entry holds for each of its heads, a 4-D one tells heads apart") {
  Rng rng(2);
  const MultiHeadAttention layer(8, 2, rng, f64);
  const Tensor x = randn({3, 4, 8}, rng, f64);
  const Tensor mask = broadcast_to(padding_mask({4, 2, 1}, 4), {3, 4, 4});
  const AttentionResult result = layer(x, {.mask = mask, .return_weights = true});
  for (std::int64_t b = 0; b < 3; ++b) {
    const Tensor one = slice(x, 0, b, b + 1);
    CHECK(off(slice(result.output, 0, b, b + 1), layer(one, {.mask = slice(mask, 0, b, b + 1)}).output) < 1e-12);
  }
  CHECK(off(result.output, layer(x, {.mask = padding_mask({4, 2, 1}, 4)}).output) < 1e-12);
  const Tensor per_head = reshape(stack({causal_mask(4), no_mask(4)}, 0), {1, 2, 4, 4});
  const Tensor weights = layer(x, {.mask = per_head, .return_weights = true}).weights;
  CHECK(weights.at({0, 0, 3}) == 0.0);
  CHECK(weights.at({1, 0, 3}) > 0.0);
  CHECK_THROWS_WITH_AS(layer(x, {.mask = no_mask(5)}), doctest::Contains("a mask [5, 5]"), std::invalid_argument);
  CHECK_THROWS_WITH_AS(layer(x, {.mask = slice(mask, 0, 0, 2)}), doctest::Contains("a batch of 3"),
                       std::invalid_argument);
}

TEST_CASE("MultiHeadAttention: the gradient of the key bias is 0, since it moves a whole row of scores") {
  Rng rng(2);
  const MultiHeadAttention layer(8, 2, rng, f64);
  const Tensor x = randn({3, 4, 8}, rng, f64);
  const Tensor y = layer(x).output;
  const auto [dk, dq] = grad(sum(y * y), {layer.W_k.bias, layer.W_q.bias});
  CHECK(max(abs(dk)).item() < 1e-13);
  CHECK(max(abs(dq)).item() > 1e-6);
}

TEST_CASE("MultiHeadAttention: grouped queries are the same as heads of keys that repeat") {
  Rng rng(4);
  const MultiHeadAttention grouped(8, 4, {.kv_heads = 2}, rng, f64);
  CHECK(names(grouped.parameters()).find("W_k.weight[4, 8]") != std::string::npos);
  MultiHeadAttention full(8, 4, rng, f64);
  full.W_q = grouped.W_q;
  full.W_o = grouped.W_o;
  const auto repeat = [](const Linear& from, Linear& to) {   // each head of 2 rows twice
    const auto twice = [](const Tensor& x) {
      const std::vector<Tensor> both{slice(x, 0, 0, 2), slice(x, 0, 0, 2), slice(x, 0, 2, 4), slice(x, 0, 2, 4)};
      return concat(both, 0);
    };
    to.weight = twice(from.weight);
    to.bias = twice(from.bias);
  };
  repeat(grouped.W_k, full.W_k);
  repeat(grouped.W_v, full.W_v);
  const Tensor x = randn({2, 3, 8}, rng, f64);
  CHECK(off(grouped(x).output, full(x).output) < 1e-13);
}

TEST_CASE("MultiHeadAttention: cross attention takes queries from x, keys and values from the memory") {
  Rng rng(4);
  const Tensor x = randn({2, 3, 8}, rng, f64), memory = randn({2, 5, 8}, rng, f64);
  const MultiHeadAttention layer(8, 4, {.kv_heads = 2}, rng, f64);
  const Tensor mask = padding_mask({5, 2}, 5);
  const AttentionResult result = layer(x, memory, {.mask = mask, .return_weights = true});
  const auto head = [](const Tensor& y, std::int64_t h) { return slice(y, 2, 2 * h, 2 * h + 2); };
  std::vector<Tensor> heads;
  for (std::int64_t h = 0; h < 4; ++h) {
    const AttentionResult one =
        attention(head(layer.W_q(x), h), head(layer.W_k(memory), h / 2), head(layer.W_v(memory), h / 2),
                  {.mask = mask, .return_weights = true});
    heads.push_back(one.output);
    for (std::int64_t b = 0; b < 2; ++b)
      CHECK(off(slice(result.weights, 0, 4 * b + h, 4 * b + h + 1), slice(one.weights, 0, b, b + 1)) < 1e-13);
  }
  CHECK(off(result.output, layer.W_o(concat(heads, -1))) < 1e-13);
  CHECK(off(layer(x, memory, {.mask = mask}).output, result.output) < 1e-13);
  CHECK(off(layer(x, x).output, layer(x).output) == 0.0);   // of itself, it is self attention
  CHECK(off(layer(x, {}).output, layer(x).output) == 0.0);  // {} are options
  const auto f = [&](const std::vector<Tensor>& in) { return layer(in[0], in[1], {.mask = mask}).output; };
  CHECK(gradcheck(f, {x, memory}, {.order = 2}));
}

TEST_CASE("MultiHeadAttention refuses a memory that does not fit") {
  Rng rng(1);
  const MultiHeadAttention layer(8, 2, rng);
  const Tensor x = zeros({2, 3, 8});
  CHECK_THROWS_WITH_AS(layer(x, zeros({2, 3, 9})), "MultiHeadAttention: memory [2, 3, 9] must be [batch, T, 8]",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(layer(x, zeros({1, 5, 8})),
                       "MultiHeadAttention: x [2, 3, 8] and memory [1, 5, 8]: batch sizes 2 and 1 differ",
                       std::invalid_argument);
  CHECK_THROWS_AS(layer(x, Tensor()), std::invalid_argument);
  CHECK_THROWS_WITH_AS(layer(x, zeros({2, 0, 8})), doctest::Contains("there are no keys"), std::invalid_argument);
  CHECK_THROWS_AS(layer(x, zeros({2, 5, 8}, f64)), std::invalid_argument);
  CHECK_THROWS_WITH_AS(MultiHeadAttention()(x), doctest::Contains("[2, 3, 8] must be [batch, T, 0]"),
                       std::invalid_argument);
  CHECK(MultiHeadAttention().parameters().size() == 0);
}

TEST_CASE("MultiHeadAttention: a learned scale starts at its number and gets gradients") {
  Rng rng(4), same(4);
  const MultiHeadAttention learned(8, 2, {.learned_scale = 0.5}, rng, f64), plain(8, 2, same, f64);
  CHECK(names(learned.parameters()).find("scale[2]") != std::string::npos);
  Rng data(1);
  const Tensor x = randn({2, 3, 8}, data, f64);
  CHECK(off(learned(x).output, plain(x, {.scale = 0.5}).output) < 1e-13);
  const Tensor y = learned(x).output;
  const auto [ds] = grad(sum(y * y), {learned.scale});
  CHECK(max(abs(ds)).item() > 1e-8);
}

TEST_CASE("MultiHeadAttention refuses heads that do not divide") {
  Rng rng(1);
  CHECK_THROWS_WITH_AS(MultiHeadAttention(10, 3, rng), doctest::Contains("d_model = 10 cannot be divided into 3 heads"),
                       std::invalid_argument);
  CHECK_THROWS_AS(MultiHeadAttention(8, 0, rng), std::invalid_argument);
  CHECK_THROWS_WITH_AS(MultiHeadAttention(8, 4, {.kv_heads = 3}, rng), doctest::Contains("kv_heads = 3"),
                       std::invalid_argument);
  const MultiHeadAttention layer(8, 2, rng);
  for (const bool return_weights : {false, true})
    CHECK_THROWS_WITH_AS(layer(zeros({2, 0, 8}), {.return_weights = return_weights}),
                         doctest::Contains("there are no keys"), std::invalid_argument);
  CHECK_THROWS_WITH_AS(layer(zeros({2, 3, 9})), doctest::Contains("[2, 3, 9] must be [batch, T, 8]"),
                       std::invalid_argument);
}

TEST_CASE("norms: LayerNorm has mean 0 and variance 1, RmsNorm a mean square of 1") {
  Rng rng(1);
  const Tensor x = randn({4, 32}, rng, f64) * 5.0 + 3.0;
  const Tensor a = LayerNorm(32, f64)(x), b = RmsNorm(32, f64)(x);
  CHECK(max(abs(mean(a, -1))).item() < 1e-13);
  CHECK(max(abs(mean(a * a, -1) - 1.0)).item() < 1e-5);
  CHECK(max(abs(mean(b * b, -1) - 1.0)).item() < 1e-6);
  CHECK(names(Norm(NormKind::layer, 4).parameters()) == "weight[4] bias[4] ");
  CHECK(names(Norm(NormKind::rms, 4).parameters()) == "weight[4] ");
  CHECK_THROWS_AS(LayerNorm(0), std::invalid_argument);
}

TEST_CASE("Embedding: rows of the weight; N(0, 1) at first") {
  Rng rng(1);
  const Embedding layer(500, 20, rng, f64);
  CHECK(var(layer.weight).item() == doctest::Approx(1.0).epsilon(0.05));
  const Tensor index = tensor({3, 3, 0}, {1, 3});
  CHECK(off(slice(layer(index), 1, 1, 2), reshape(slice(layer.weight, 0, 3, 4), {1, 1, 20})) == 0.0);
  CHECK_THROWS_AS(layer(tensor({500}, {1})), std::out_of_range);
}

TEST_CASE("positions: sines as in the paper, and learned ones that refuse what is too long") {
  const Tensor table = sinusoidal_positions(4, 6, f64);
  for (std::int64_t t = 0; t < 4; ++t)
    for (std::int64_t i = 0; i < 3; ++i) {
      const double angle = double(t) / std::pow(10000.0, double(2 * i) / 6.0);
      CHECK(table.at({t, 2 * i}) == doctest::Approx(std::sin(angle)));
      CHECK(table.at({t, 2 * i + 1}) == doctest::Approx(std::cos(angle)));
    }
  CHECK(sinusoidal_positions(2, 5).shape() == Shape{2, 5});
  Rng rng(1);
  const LearnedPositions learned(3, 2, rng, f64);
  CHECK(off(learned(zeros({4, 2, 2}, f64)), broadcast_to(slice(learned.weight, 0, 0, 2), {4, 2, 2})) == 0.0);
  CHECK_THROWS_WITH_AS(learned(zeros({1, 4, 2}, f64)), doctest::Contains("[1, 4, 2]"), std::invalid_argument);
}

TEST_CASE("rotary: keeps lengths, and the product of two turned vectors depends on their distance only") {
  Rng rng(1);
  const Tensor q = randn({1, 6}, rng, f64), k = randn({1, 6}, rng, f64);
  const Tensor Q = rotary(broadcast_to(q, {9, 6})), K = rotary(broadcast_to(k, {9, 6}));
  CHECK(off(sum(Q * Q, -1), broadcast_to(sum(q * q), {9})) < 1e-13);
  const Tensor products = matmul(Q, K, {.transpose_b = true});
  for (std::int64_t i = 1; i < 9; ++i)
    for (std::int64_t j = 1; j < 9; ++j)
      CHECK(products.at({i, j}) == doctest::Approx(products.at({i - 1, j - 1})));
  CHECK(std::abs(products.at({0, 0}) - products.at({3, 0})) > 1e-6);
  CHECK(off(slice(Q, 0, 0, 1), q) == 0.0);   // place 0 does not turn
  CHECK(Q.at({1, 0}) == doctest::Approx(q.at({0, 0}) * std::cos(1.0) - q.at({0, 3}) * std::sin(1.0)));
  CHECK_THROWS_WITH_AS(rotary(zeros({2, 3})), doctest::Contains("even"), std::invalid_argument);
}

TEST_CASE("positions with a first place are rows of the longer table") {
  CHECK(off(sinusoidal_positions(3, 6, f64, 4), slice(sinusoidal_positions(7, 6, f64), 0, 4)) == 0.0);
  CHECK(off(alibi_bias(3, 2, 7, f64), slice(alibi_bias(3, 7, f64), 1, 5)) == 0.0);
  CHECK(off(alibi_bias(3, 7, 7, f64), alibi_bias(3, 7, f64)) == 0.0);
  CHECK_THROWS_WITH_AS(alibi_bias(3, 8, 7), "alibi_bias: heads = 3, Tq = 8, Tk = 7: needs at least one head and "
                       "0 <= Tq <= Tk", std::invalid_argument);
  Rng rng(1);
  const LearnedPositions learned(7, 2, rng, f64);
  CHECK(off(learned(zeros({2, 3, 2}, f64), 4), broadcast_to(slice(learned.weight, 0, 4, 7), {2, 3, 2})) == 0.0);
  for (const std::int64_t first : {-1, 5})
    CHECK_THROWS_AS(learned(zeros({2, 3, 2}, f64), first), std::invalid_argument);
  CHECK_THROWS_WITH_AS(learned(zeros({2, 3, 2}, f64), 5),
                       "LearnedPositions: positions 5 to 7 are not all within the 7 learned ones",
                       std::invalid_argument);
  const Tensor x = randn({2, 7, 6}, rng, f64);
  CHECK(off(rotary(slice(x, 1, 4), {.first = 4}), slice(rotary(x), 1, 4)) == 0.0);
}

TEST_CASE("rotary: each pair is turned by its position times its frequency, halves or interleaved, in the width given") {
  Rng rng(1);
  const Tensor x = randn({2, 3, 2, 8}, rng, f64);   // [B, T, heads, d]
  const Tensor places = tensor({5, 0, 2, 9, 1, 1}, {2, 3});
  for (const RotaryPairs pairs : {RotaryPairs::halves, RotaryPairs::interleaved})
    for (const std::int64_t width : {8, 4, 2}) {
      const Tensor y = rotary(x, {.base = 50.0, .positions = places, .pairs = pairs, .width = width,
                                  .axis_of_places = 1});
      double worst = 0.0;
      for (std::int64_t b = 0; b < 2; ++b)
        for (std::int64_t t = 0; t < 3; ++t)
          for (std::int64_t h = 0; h < 2; ++h) {
            for (std::int64_t i = 0; i < width / 2; ++i) {
              const std::int64_t p = pairs == RotaryPairs::halves ? i : 2 * i;
              const std::int64_t q = pairs == RotaryPairs::halves ? i + width / 2 : 2 * i + 1;
              const double angle = places.at({b, t}) * std::pow(50.0, -2.0 * double(i) / double(width));
              const double c = std::cos(angle), s = std::sin(angle), u = x.at({b, t, h, p}), v = x.at({b, t, h, q});
              worst = std::max({worst, std::abs(y.at({b, t, h, p}) - (u * c - v * s)),
                                std::abs(y.at({b, t, h, q}) - (v * c + u * s))});
            }
            for (std::int64_t i = width; i < 8; ++i)
              worst = std::max(worst, std::abs(y.at({b, t, h, i}) - x.at({b, t, h, i})));
          }
      CHECK(worst < 1e-14);
      const auto f = [&](const std::vector<Tensor>& in) {
        return rotary(in[0], {.positions = places, .pairs = pairs, .width = width, .axis_of_places = 1});
      };
      CHECK(gradcheck(f, {x}, {.order = 2}));
    }
}

TEST_CASE("rotary: positions may be one row for all, and a base alone still means what it did") {
  Rng rng(1);
  const Tensor x = randn({2, 3, 4}, rng, f64), places = tensor({4, 5, 6}, {3});
  CHECK(off(rotary(x, {.positions = places}), rotary(x, {.first = 4})) == 0.0);
  CHECK(off(rotary(x, {.positions = stack({places, places}, 0)}), rotary(x, {.first = 4})) == 0.0);
  CHECK(off(rotary(x, 100.0), rotary(x, {.base = 100.0})) == 0.0);
  CHECK(off(rotary(x, 100, 0), rotary(x, {.base = 100.0, .axis_of_places = 0})) == 0.0);
  CHECK(off(rotary(x, {}), rotary(x)) == 0.0);
  CHECK(rotary(zeros({2, 3, 5}), {.width = 4}).shape() == Shape{2, 3, 5});
}

TEST_CASE("rotary refuses bad options in one sentence") {
  const Tensor x = zeros({2, 3, 4});
  const auto refused = [&](const std::string& sentence, const RotaryOptions& options) {
    CHECK_THROWS_WITH_AS(rotary(x, options), sentence.c_str(), std::invalid_argument);
  };
  refused("rotary: x [2, 3, 4]: the width must be even and at most the size of the last axis, not 3", {.width = 3});
  refused("rotary: x [2, 3, 4]: the width must be even and at most the size of the last axis, not 6", {.width = 6});
  refused("rotary: x [2, 3, 4]: the width must be even and at most the size of the last axis, not -2", {.width = -2});
  refused("rotary: base = 0 must be positive", {.base = 0.0});
  refused("rotary: positions int64 [2] must be int64 [3] or [2, 3] for x [2, 3, 4]", {.positions = tensor({1, 2}, {2})});
  refused("rotary: positions float32 [3] must be int64 [3] or [2, 3] for x [2, 3, 4]", {.positions = zeros({3})});
  CHECK_THROWS_WITH_AS(rotary(zeros({2, 3, 5})), "rotary: x [2, 3, 5]: the last axis must have an even size",
                       std::invalid_argument);
}

TEST_CASE("MultiHeadAttention: rotary pairs and width reach the heads") {
  Rng rng(1), same(1);
  const MultiHeadConfig config{.rotary_base = 100.0, .rotary_width = 2, .rotary_pairs = RotaryPairs::interleaved};
  const MultiHeadAttention turned(8, 2, config, rng, f64), plain(8, 2, same, f64);
  const Tensor x = randn({1, 3, 8}, rng, f64);
  const auto heads = [&](const Linear& W) {   // [B, heads, T, d_k]
    return rotary(permute(reshape(W(x), {1, 3, 2, 4}), {0, 2, 1, 3}),
                  {.base = 100.0, .pairs = RotaryPairs::interleaved, .width = 2});
  };
  const Tensor V = permute(reshape(plain.W_v(x), {1, 3, 2, 4}), {0, 2, 1, 3});
  const Tensor joined = reshape(permute(attention(heads(plain.W_q), heads(plain.W_k), V).output, {0, 2, 1, 3}),
                                {1, 3, 8});
  CHECK(off(turned(x).output, plain.W_o(joined)) < 1e-13);
}

TEST_CASE("Dropout drops only where there are random numbers") {
  const Dropout layer(0.25);
  const Tensor x = ones({10000}, f64);
  CHECK(layer(x).same(x));
  Rng rng(1);
  const Tensor y = layer(x, &rng);
  CHECK(mean(y).item() == doctest::Approx(1.0).epsilon(0.03));
  CHECK(mean((y == 0.0).to(f64)).item() == doctest::Approx(0.25).epsilon(0.08));
  CHECK(max(y).item() == doctest::Approx(1.0 / 0.75));
  CHECK_THROWS_WITH_AS(Dropout(1.5), doctest::Contains("p = 1.5"), std::invalid_argument);
}

TEST_CASE("FeedForward: each activation is its formula") {
  for (const Activation kind : {Activation::relu, Activation::gelu, Activation::gelu_tanh, Activation::swiglu}) {
    Rng rng(1);
    const FeedForward layer(4, 6, rng, kind, f64);
    const Tensor x = randn({2, 3, 4}, rng, f64), inner = layer.linear1(x);
    const Tensor expected = kind == Activation::relu        ? where(inner > 0.0, inner, zeros_like(inner))
                            : kind == Activation::gelu      ? inner * (erf(inner / std::sqrt(2.0)) + 1.0) * 0.5
                            : kind == Activation::gelu_tanh
                                ? inner * (tanh((inner + inner * inner * inner * 0.044715) *
                                                std::sqrt(2.0 / std::numbers::pi)) + 1.0) * 0.5
                                : (*layer.gate)(x) * sigmoid((*layer.gate)(x)) * inner;
    CHECK(off(layer(x), layer.linear2(expected)) < 1e-13);
    CHECK(layer.parameters().size() == (kind == Activation::swiglu ? 6 : 4));
  }
}

TEST_CASE("TransformerBlock: the norm before and after each half") {
  for (const NormPlace place : {NormPlace::pre, NormPlace::post}) {
    Rng rng(1);
    const TransformerBlock block({.d_model = 4, .heads = 2, .norm_place = place, .dtype = f64}, rng);
    const Tensor x = randn({2, 3, 4}, rng, f64);
    Tensor expected;
    if (place == NormPlace::pre) {
      const Tensor y = x + block.attention(block.norm1(x)).output;
      expected = y + block.feed_forward(block.norm2(y));
    } else {
      const Tensor y = block.norm1(x + block.attention(x).output);
      expected = block.norm2(y + block.feed_forward(y));
    }
    CHECK(off(block(x).output, expected) < 1e-13);
  }
}

namespace {

// softmax(Q) (softmax(K)^T V), without a T x T table. Shen 2018, arXiv 1812.01243; causal: the sums run up to each query.
struct LinearAttention {
  LinearAttention(std::int64_t d, Rng& rng, Dtype dtype)
      : W_q(d, d, rng, dtype), W_k(d, d, rng, dtype), W_v(d, d, rng, dtype) {}
  Tensor operator()(const Tensor& x, const AttentionOptions& options) const {
    const Shape s = x.shape();   // [B, T, d]
    const Tensor Q = softmax(W_q(x), -1), K = exp(W_k(x)), V = W_v(x);
    const Tensor pairs = reshape(K, {s[0], s[1], s[2], 1}) * reshape(V, {s[0], s[1], 1, s[2]});
    const Tensor KV = options.causal ? cumsum(pairs, 1) : sum(pairs, Over{{1}, true});
    const Tensor Z = options.causal ? cumsum(K, 1) : sum(K, Over{{1}, true});
    return sum(reshape(Q / Z, {s[0], s[1], s[2], 1}) * KV, -2);
  }
  Parameters parameters() const { return collect("W_q", W_q, "W_k", W_k, "W_v", W_v); }
  Linear W_q, W_k, W_v;
};

TransformerConfig with_linear_attention() {
  TransformerConfig config = tiny();
  config.block.make_attention = [](const BlockConfig& c, Rng& rng) {
    return LinearAttention(c.d_model, rng, c.dtype);
  };
  return config;
}

}  // namespace

TEST_CASE("an attention layer of one's own: a Transformer names, starts, trains and saves it like its own") {
  Rng rng(1);
  const Transformer model(with_linear_attention(), rng);
  const std::string all = names(model.parameters());
  CHECK(all.find("blocks.1.attention.W_k.weight[4, 4] ") != std::string::npos);
  CHECK(all.find("W_o") == std::string::npos);
  shake(model.parameters());
  const Tensor input = tokens({2, 4}, 7), target = tokens({2, 4}, 7, 8);
  CHECK(off(slice(model(input), 1, 0, 2), model(slice(input, 1, 0, 2))) < 1e-13);   // causal reaches it
  const Tensor loss = cross_entropy(model(input), target);
  const std::vector<Tensor> gradients = grad(loss, model.parameters().tensors());
  std::size_t i = 0;
  for (const auto& named : model.parameters())   // a key's bias is a factor of both sums: it cancels
    CHECK((max(abs(gradients[i++])).item() > 1e-9) == !named.first.ends_with("W_k.bias"));
  CHECK(model.look(input).blocks[0].weights.empty());
  AdamW optimizer(model.parameters(), {.lr = 0.05});
  for (int step = 0; step < 30; ++step)
    optimizer.step(grad(cross_entropy(model(input), target), optimizer.parameters().tensors()));
  CHECK(cross_entropy(model(input), target).item() < 0.5 * loss.item());
}

TEST_CASE("an attention layer of one's own: in a block it stands where MultiHeadAttention does") {
  Rng rng(1);
  BlockConfig config = with_linear_attention().block;
  const TransformerBlock block(config, rng);
  const Tensor x = randn({2, 3, 4}, rng, f64);
  REQUIRE(block.own_attention);
  const Tensor y = x + block.own_attention->forward(block.norm1(x), {}).output;
  CHECK(off(block(x).output, y + block.feed_forward(block.norm2(y))) < 1e-13);
  const auto f = [&](const std::vector<Tensor>& in) { return block(in[0], {.causal = true}).output; };
  CHECK(gradcheck(f, {x}, {.order = 2}));
  KeyValueCache cache;
  CHECK_THROWS_WITH_AS(block.step(x, cache), doctest::Contains("has no step"), std::invalid_argument);

  config.make_attention = [](const BlockConfig& c, Rng& draw) { return MultiHeadAttention(c.d_model, c.heads, draw, c.dtype); };
  Rng a(7), b(7);
  const TransformerBlock own(config, a);
  config.make_attention = {};
  const TransformerBlock usual(config, b);
  CHECK(off(own(x).output, usual(x).output) == 0.0);
  CHECK(names(own.parameters()) == names(usual.parameters()));
  KeyValueCache mine, theirs;   // MultiHeadAttention has a step, so the block has one too
  CHECK(off(own.step(x, mine).output, usual.step(x, theirs).output) == 0.0);
  CHECK(mine.length() == 3);
}

TEST_CASE("an attention layer of one's own: what it gives must have x's shape, and without a step generate still works") {
  struct Halved {
    Tensor operator()(const Tensor& x, const AttentionOptions&) const { return slice(x, 2, 0, 2); }
    Parameters parameters() const { return {}; }
  };
  TransformerConfig config = tiny();
  config.block.make_attention = [](const BlockConfig&, Rng&) { return Halved(); };
  Rng rng(1);
  CHECK_THROWS_WITH_AS(Transformer(config, rng)(tokens({1, 2}, 7)),
                       "TransformerBlock: its own attention layer gave [1, 2, 2] for x [1, 2, 4]",
                       std::invalid_argument);
  const Transformer model(with_linear_attention(), rng);
  shake(model.parameters());
  CHECK(!model.can_step());
  const Tensor start = tokens({2, 3}, 7), made = generate(model, start, 2);
  CHECK(off(slice(made, 1, 3, 4), argmax(slice(model(start), 1, -1), -1)) == 0.0);
}

TEST_CASE("collect: tensors, layers, optionals and vectors by name; what is empty is left out") {
  Rng rng(1);
  const Linear with(2, 3, rng), without(3, 1, rng, Dtype::float32, false);
  const Parameters all = collect("gain", ones({4}), "none", Tensor(), "in", with, "gate", std::optional<Linear>(),
                                 "out", std::optional<Linear>(without), "blocks", std::vector<Linear>{with, without},
                                 "tables", std::vector<Tensor>{ones({1}), Tensor()}, "own", Parameters{{"a", ones({2})}});
  CHECK(names(all) == "gain[4] in.weight[3, 2] in.bias[3] out.weight[1, 3] blocks.0.weight[3, 2] blocks.0.bias[3] "
                      "blocks.1.weight[1, 3] tables.0[1] own.a[2] ");
  CHECK(all["in.weight"].same(with.weight));
  CHECK(collect().size() == 0);
  CHECK_THROWS_WITH_AS(collect("a", ones({1}), "a", ones({1})), doctest::Contains("two are named a"),
                       std::invalid_argument);
}

TEST_CASE("Transformer: names as in PyTorch's state dicts") {
  Rng rng(1);
  TransformerConfig config = tiny();
  config.layers = 1;
  config.tied = false;
  CHECK(names(Transformer(config, rng).parameters()) ==
        "embedding.weight[7, 4] positions.weight[5, 4] blocks.0.norm1.weight[4] blocks.0.norm1.bias[4] "
        "blocks.0.attention.W_q.weight[4, 4] blocks.0.attention.W_q.bias[4] blocks.0.attention.W_k.weight[4, 4] "
        "blocks.0.attention.W_k.bias[4] blocks.0.attention.W_v.weight[4, 4] blocks.0.attention.W_v.bias[4] "
        "blocks.0.attention.W_o.weight[4, 4] blocks.0.attention.W_o.bias[4] blocks.0.norm2.weight[4] "
        "blocks.0.norm2.bias[4] blocks.0.feed_forward.linear1.weight[6, 4] blocks.0.feed_forward.linear1.bias[6] "
        "blocks.0.feed_forward.linear2.weight[4, 6] blocks.0.feed_forward.linear2.bias[4] norm.weight[4] norm.bias[4] "
        "head.weight[7, 4] ");
}

TEST_CASE("Transformer: a decoder does not look ahead, an encoder does, whatever its positions") {
  for (const Positions positions :
       {Positions::none, Positions::learned, Positions::sinusoidal, Positions::rotary, Positions::alibi})
    for (const bool causal : {false, true}) {
      TransformerConfig config = tiny();
      config.positions = positions;
      config.causal = causal;
      Rng rng(1);
      const Transformer model(config, rng);
      shake(model.parameters());
      const Tensor a = model(tensor({1, 2, 3, 4}, {1, 4})), b = model(tensor({1, 2, 3, 5}, {1, 4}));
      CHECK((off(slice(a, 1, 0, 3), slice(b, 1, 0, 3)) == 0.0) == causal);
      CHECK(a.shape() == Shape{1, 4, 7});
      // Without positions, an encoder cannot tell the order of its tokens; with them it can.
      const Tensor c = model(tensor({2, 1, 3, 4}, {1, 4}));
      const bool blind = off(slice(a, 1, 3, 4), slice(c, 1, 3, 4)) < 1e-12;
      if (!causal) CHECK(blind == (positions == Positions::none));
    }
}

TEST_CASE("Transformer: every parameter gets a gradient, and each is right") {
  const Tensor input = tokens({2, 4}, 7), target = tokens({2, 4}, 7, 8);
  for (const NormPlace place : {NormPlace::pre, NormPlace::post})
    for (const NormKind norm : {NormKind::layer, NormKind::rms}) {
      TransformerConfig config = tiny();
      config.tied = norm == NormKind::layer;
      config.block.norm_place = place;
      config.block.norm = norm;
      config.block.activation = norm == NormKind::rms ? Activation::swiglu : Activation::gelu;
      if (norm == NormKind::rms) config.positions = Positions::rotary;
      config.block.projections = {.kv_heads = norm == NormKind::rms ? 1 : 0, .learned_scale = 0.6};
      Rng rng(1);
      Transformer model(config, rng);
      const Parameters parameters = model.parameters();
      shake(parameters);
      const Tensor loss = cross_entropy(model(input), target);
      const std::vector<Tensor> gradients = grad(loss, parameters.tensors());
      std::size_t i = 0;
      for (const auto& named : parameters) {   // clang 14 captures no structured bindings
        const auto& name = named.first;
        const Tensor& value = named.second;
        CAPTURE(name);
        const Tensor& g = gradients[i++];
        if (!name.ends_with("W_k.bias")) CHECK(max(abs(g)).item() > 1e-7);
        // A central difference along a random direction.
        Rng draw(i);
        const Tensor direction = randn(value.shape(), draw, f64), at = value.detach();
        Tensor parameter = value;
        const double h = 1e-5;
        const auto loss_at = [&](double step) {
          parameter.assign((at + direction * step).detach());
          return cross_entropy(model(input), target).item();
        };
        const double numeric = (loss_at(h) - loss_at(-h)) / (2.0 * h);
        parameter.assign(at);
        CHECK(sum(g * direction).item() == doctest::Approx(numeric).scale(1.0).epsilon(1e-8));
      }
    }
}

TEST_CASE("Transformer: padding that is masked changes nothing for the tokens before it") {
  TransformerConfig config = tiny();
  config.causal = false;
  Rng rng(1);
  const Transformer model(config, rng);
  const ForwardOptions options{.mask = padding_mask({3}, 5)};
  const Tensor a = model(tensor({1, 2, 3, 0, 0}, {1, 5}), options), b = model(tensor({1, 2, 3, 6, 5}, {1, 5}), options);
  CHECK(off(slice(a, 1, 0, 3), slice(b, 1, 0, 3)) == 0.0);
}

TEST_CASE("padding masks: left and right, from lengths") {
  const auto rows = [](const Tensor& mask) {
    std::string text;
    for (const bool real : mask.values<bool>()) text += real ? '1' : '0';
    return text;
  };
  CHECK(rows(padding_mask({2, 0, 3}, 3)) == "110000111");
  CHECK(rows(padding_mask({2, 0, 3}, 3, Side::right)) == "110000111");
  CHECK(rows(padding_mask({2, 0, 3}, 3, Side::left)) == "011000111");
  CHECK(padding_mask({2, 0, 3}, 3, Side::left).shape() == Shape{3, 1, 3});
  CHECK(rows(both(padding_mask({2}, 3, Side::left), causal_mask(3))) == "000010011");
  CHECK_THROWS_WITH_AS(padding_mask({4}, 3, Side::left), "padding_mask: length 4 must be between 0 and T = 3",
                       std::invalid_argument);
}

TEST_CASE("Transformer: padding on either side changes nothing, alone or with causal, in value or gradient") {
  const Tensor words = tensor({1, 2, 3}, {1, 3});
  const auto padded = [&](std::int64_t with, Side side) {
    const Tensor filler = tensor({with, 6 - with}, {1, 2});
    return side == Side::right ? concat({words, filler}, 1) : concat({filler, words}, 1);
  };
  for (const Positions positions : {Positions::none, Positions::rotary, Positions::alibi})   // no place of its own
    for (const bool causal : {false, true})
      for (const Side side : {Side::right, Side::left}) {
        TransformerConfig config = tiny();
        config.positions = positions;
        config.causal = causal;
        config.tied = false;
        Rng rng(1);
        const Transformer model(config, rng);
        shake(model.parameters());
        const ForwardOptions options{.mask = padding_mask({3}, 5, side)};
        const std::int64_t from = side == Side::right ? 0 : 2;
        const auto kept = [&](const Tensor& y) { return slice(y, 1, from, from + 3); };
        const Tensor a = kept(model(padded(0, side), options));
        CHECK(off(a, kept(model(padded(5, side), options))) == 0.0);
        CHECK(off(a, model(words)) < 1e-12);
        const auto [d] = grad(sum(a * a), {model.embedding.weight});
        CHECK(max(abs(slice(d, 0, 6))).item() == 0.0);   // of the filler
        CHECK(max(abs(slice(d, 0, 1, 4))).item() > 0.0);
      }
}

TEST_CASE("Transformer: the rules of its configuration and those of a call hold together") {
  const Tensor input = tokens({2, 5}, 7), padding = padding_mask({5, 3}, 5);
  const auto built = [](TransformerConfig config) {
    Rng rng(1);
    Transformer model(config, rng);
    shake(model.parameters());
    return model;
  };
  TransformerConfig encoder = tiny();
  encoder.causal = false;
  const Transformer plain = built(encoder);

  for (const Tensor& mask : {window_mask(5, 2), window_mask(5, 2).to(f64), broadcast_to(window_mask(5, 2), {2, 5, 5}),
                             broadcast_to(window_mask(5, 2), {1, 2, 5, 5})}) {
    TransformerConfig masked = encoder;
    masked.attention.mask = mask;
    const Transformer model = built(masked);
    CHECK(off(model(input), plain(input, {.mask = window_mask(5, 2)})) < 1e-13);
    CHECK(off(model(input, {.mask = padding}), plain(input, {.mask = both(window_mask(5, 2), padding)})) < 1e-13);
  }

  TransformerConfig causal = encoder;
  causal.attention.causal = true;
  CHECK(off(built(causal)(input), built(tiny())(input)) == 0.0);
  CHECK(off(built(causal)(input), plain(input)) > 1e-4);

  Rng rng(4);
  const Tensor bias = randn({5, 5}, rng, f64);
  for (const Positions positions : {Positions::none, Positions::alibi}) {
    TransformerConfig biased = encoder, summed = encoder;
    biased.positions = positions;
    biased.attention.bias = bias;
    summed.positions = Positions::none;
    summed.attention.bias = positions == Positions::alibi ? bias + alibi_bias(2, 5, f64) : bias;
    CHECK(off(built(biased)(input), built(summed)(input)) < 1e-13);
  }

  TransformerConfig per_call = tiny();
  per_call.attention.rng = &rng;
  CHECK_THROWS_WITH_AS(built(per_call), doctest::Contains("belong to a call"), std::invalid_argument);
}

TEST_CASE("Transformer: Anomaly is silent when a decoder is looked into") {
  Rng rng(1);
  const Transformer model(tiny(), rng);
  const Anomaly watch;
  const TransformerResult seen = model.look(tokens({2, 4}, 7));
  CHECK_NOTHROW(grad(sum(seen.output * seen.output), model.parameters().tensors()));
}

TEST_CASE("Transformer: looking inside changes nothing, and shows each block's weights") {
  Rng rng(1);
  const Transformer model(tiny(), rng);
  const Tensor input = tokens({2, 4}, 7);
  const TransformerResult seen = model.look(input);
  CHECK(off(seen.output, model(input)) < 1e-13);
  REQUIRE(seen.blocks.size() == 2);
  CHECK(seen.blocks[1].weights.shape() == Shape{4, 4, 4});
  const auto [dw] = grad(sum(seen.output * seen.output), {seen.blocks[0].weights});
  CHECK(max(abs(dw)).item() > 0.0);
}

TEST_CASE("Transformer: probes see each layer's intermediates by name, with their gradients") {
  Rng rng(1);
  const Transformer model(tiny(), rng);
  Probe look;
  const Tensor y = model(tokens({2, 4}, 7));
  std::string seen;
  for (const auto& [name, value] : look.seen())
    if (!name.starts_with("blocks.1")) seen += name + to_string(value.shape()) + " ";
  CHECK(seen ==
        "embedding[2, 4, 4] blocks.0.attention.input[2, 4, 4] blocks.0.attention.Q[2, 4, 4] "
        "blocks.0.attention.K[2, 4, 4] blocks.0.attention.V[2, 4, 4] blocks.0.attention.scores[4, 4, 4] "
        "blocks.0.attention.weights[4, 4, 4] blocks.0.attention.heads[2, 4, 4] blocks.0.attention.output[2, 4, 4] "
        "blocks.0.middle[2, 4, 4] blocks.0.feed_forward.input[2, 4, 4] blocks.0.feed_forward.inner[2, 4, 6] "
        "blocks.0.feed_forward.hidden[2, 4, 6] blocks.0.feed_forward.output[2, 4, 4] blocks.0.output[2, 4, 4] "
        "norm[2, 4, 4] logits[2, 4, 7] ");
  for (const auto& named : look.gradients(sum(y * y))) {
    CAPTURE(named.first);
    CHECK(max(abs(named.second)).item() > 0.0);
  }
}

TEST_CASE("Transformer: dropout only with random numbers, the same for the same ones") {
  TransformerConfig config = tiny();
  config.block.dropout = 0.3;
  Rng rng(1);
  const Transformer model(config, rng);
  const Tensor input = tokens({2, 4}, 7);
  CHECK(off(model(input), model(input)) == 0.0);
  Rng a(2), b(2);
  const Tensor dropped = model(input, {.rng = &a});
  CHECK(off(dropped, model(input)) > 1e-4);
  CHECK(off(dropped, model(input, {.rng = &b})) == 0.0);
  CHECK(a.position() == b.position());
}

TEST_CASE("Transformer: a tied head reads the embedding, and an encoder without a head gives vectors") {
  Rng rng(1);
  TransformerConfig config = tiny();
  const Transformer tied(config, rng);
  CHECK(names(tied.parameters()).find("head") == std::string::npos);
  config.head = false;
  CHECK(Transformer(config, rng)(tokens({2, 4}, 7)).shape() == Shape{2, 4, 4});
  CHECK_THROWS_WITH_AS(tied(tokens({2, 6}, 7)),
                       doctest::Contains("tokens [2, 6] must be [batch, T] with T between 1 and 5"),
                       std::invalid_argument);
  config.vocabulary = 0;
  CHECK_THROWS_WITH_AS(Transformer(config, rng), doctest::Contains("vocabulary = 0"), std::invalid_argument);
}

TEST_CASE("initialisers have the spread of torch.nn.init") {
  Rng rng(1);
  const Shape shape{300, 200};
  const InitOptions options{.dtype = f64};
  const auto spread = [](const Tensor& x) { return std::sqrt(var(x).item()); };
  const auto largest = [](const Tensor& x) { return max(abs(x)).item(); };
  CHECK(spread(xavier_normal(shape, rng, options)) == doctest::Approx(std::sqrt(2.0 / 500)).epsilon(0.01));
  CHECK(spread(xavier_uniform(shape, rng, options)) == doctest::Approx(std::sqrt(2.0 / 500)).epsilon(0.01));
  CHECK(largest(xavier_uniform(shape, rng, options)) == doctest::Approx(std::sqrt(6.0 / 500)).epsilon(0.001));
  CHECK(spread(kaiming_normal(shape, rng, options)) == doctest::Approx(std::sqrt(2.0 / 200)).epsilon(0.01));
  CHECK(largest(kaiming_uniform(shape, rng, options)) == doctest::Approx(std::sqrt(6.0 / 200)).epsilon(0.001));
  CHECK(spread(kaiming_normal(shape, rng, {.slope = 2.0, .fan_out = true, .dtype = f64})) ==
        doctest::Approx(std::sqrt(0.4 / 300)).epsilon(0.01));
  CHECK(spread(xavier_normal(shape, rng, {.gain = 3.0, .dtype = f64})) ==
        doctest::Approx(3.0 * std::sqrt(2.0 / 500)).epsilon(0.01));
  CHECK_THROWS_WITH_AS(xavier_normal({3}, rng), doctest::Contains("xavier_normal: [3]"), std::invalid_argument);
}

TEST_CASE("initialise: GPT-2's start gives residual projections less, the more blocks there are") {
  Rng rng(1);
  TransformerConfig config{.vocabulary = 50, .context = 40, .layers = 8};
  config.block = {.d_model = 64, .heads = 2, .dtype = f64};
  const Transformer model(config, rng);
  const auto spread = [&](const char* name) { return std::sqrt(var(model.parameters()[name]).item()); };
  CHECK(spread("embedding.weight") == doctest::Approx(0.02).epsilon(0.05));
  CHECK(spread("blocks.3.attention.W_q.weight") == doctest::Approx(0.02).epsilon(0.05));
  CHECK(spread("blocks.3.attention.W_o.weight") == doctest::Approx(0.005).epsilon(0.05));
  CHECK(spread("blocks.7.feed_forward.linear2.weight") == doctest::Approx(0.005).epsilon(0.05));
  CHECK(max(abs(model.parameters()["blocks.0.attention.W_q.bias"])).item() == 0.0);
  CHECK(model.parameters()["blocks.0.norm1.weight"].at({0}) == 1.0);
  initialise(model.parameters(), Init::xavier_uniform, rng);
  CHECK(spread("blocks.3.attention.W_o.weight") == doctest::Approx(std::sqrt(2.0 / 128)).epsilon(0.05));
}

}
