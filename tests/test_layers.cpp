// Layers: what each computes, what its parameters are called and how they start, and that gradients reach all of them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>
#include <string>
#include <vector>

#include "layers/layers.hpp"
#include "tests/layer_tools.hpp"

using namespace surgeon;
using namespace surgeon::tests;

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
  for (const Activation kind : {Activation::relu, Activation::gelu, Activation::gelu_tanh, Activation::silu,
                                Activation::swiglu}) {
    Rng rng(1);
    const FeedForward layer(4, 6, rng, kind, f64);
    const Tensor x = randn({2, 3, 4}, rng, f64), inner = layer.linear1(x);
    const Tensor expected = kind == Activation::relu        ? where(inner > 0.0, inner, zeros_like(inner))
                            : kind == Activation::silu      ? inner * sigmoid(inner)
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
