// Going on from what was read: keys and values that are kept, and the tokens that a Transformer adds.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "layers/layers.hpp"
#include "tests/layer_tools.hpp"

using namespace surgeon;
using namespace surgeon::tests;

namespace {

TransformerConfig small() {
  TransformerConfig config{.vocabulary = 11, .context = 9, .layers = 2};
  config.block = {.d_model = 8, .heads = 4, .hidden = 12, .dtype = f64};
  return config;
}

// With parameters far enough from 0 that what a token sees decides what follows it.
Transformer built(const TransformerConfig& config) {
  Rng rng(1), noise(2);
  Transformer model(config, rng);
  for (auto [name, parameter] : model.parameters())
    parameter.assign((parameter + randn(parameter.shape(), noise, parameter.dtype()) * 0.5).detach());
  return model;
}

Tensor some_tokens(const Shape& shape, std::uint64_t seed = 3) {
  Rng rng(seed);
  return randint(0, 11, shape, rng);
}

Tensor part(const Tensor& x, std::int64_t from, std::int64_t to) { return slice(x, 1, from, to); }

}  // namespace

TEST_SUITE("generate") {

TEST_CASE("MultiHeadAttention: step by step it gives the rows of one causal call") {
  Rng rng(1);
  const Tensor x = randn({2, 7, 8}, rng, f64);
  for (const MultiHeadConfig& config :
       {MultiHeadConfig{}, {.kv_heads = 2}, {.kv_heads = 1, .rotary_base = 100.0}, {.learned_scale = 0.7},
        {.rotary_base = 100.0, .rotary_pairs = RotaryPairs::interleaved}})
    for (const std::int64_t window : {0, 3}) {
      const MultiHeadAttention layer(8, 4, config, rng, f64);
      const AttentionOptions rules{.return_weights = true, .causal = true, .window = window};
      const AttentionResult whole = layer(x, rules);
      KeyValueCache cache;
      std::int64_t at = 0;
      for (const std::int64_t length : {3, 1, 2, 1}) {   // several tokens at once, too
        const AttentionResult rows = layer.step(part(x, at, at + length), cache, rules);
        CHECK(off(rows.output, part(whole.output, at, at + length)) < 1e-12);
        at += length;
        CHECK(off(rows.weights, slice(part(whole.weights, at - length, at), 2, 0, at)) < 1e-12);
        CHECK(cache.length() == at);
      }
    }
}

TEST_CASE("MultiHeadAttention: a step has gradients to what was kept, and takes a mask over all tokens so far") {
  Rng rng(1);
  const MultiHeadAttention layer(4, 2, rng, f64);
  const Tensor x = randn({2, 3, 4}, rng, f64);
  const auto second = [&](const std::vector<Tensor>& in) {
    KeyValueCache cache;
    layer.step(part(in[0], 0, 2), cache);
    return layer.step(part(in[0], 2, 3), cache).output;
  };
  CHECK(gradcheck(second, {x}, {.order = 2}));
  KeyValueCache cache;
  const Tensor mask = padding_mask({2, 3}, 3, Side::left);
  layer.step(part(x, 0, 2), cache, {.mask = slice(mask, 2, 0, 2)});
  const Tensor last = layer.step(part(x, 2, 3), cache, {.mask = mask}).output;
  CHECK(off(slice(last, 0, 0, 1), part(layer(slice(part(x, 1, 3), 0, 0, 1)).output, 1, 2)) < 1e-12);
}

TEST_CASE("MultiHeadAttention: a cache of other sizes is refused, and a refused step leaves it as it was") {
  Rng rng(1);
  const MultiHeadAttention layer(8, 2, rng, f64);
  KeyValueCache cache;
  layer.step(zeros({2, 3, 8}, f64), cache);
  CHECK_THROWS_WITH_AS(layer.step(zeros({1, 1, 8}, f64), cache),
                       "MultiHeadAttention: the cache holds K [2, 3, 8] and V [2, 3, 8], which do not fit x [1, 1, 8]: "
                       "needs [1, T, 8] of the same dtype", std::invalid_argument);
  CHECK_THROWS_AS(layer.step(zeros({2, 1, 8}, f64), cache, {.mask = no_mask(7)}), std::invalid_argument);
  CHECK(cache.length() == 3);
  KeyValueCache half{.K = zeros({2, 3, 8}, f64)};
  CHECK_THROWS_AS(layer.step(zeros({2, 1, 8}, f64), half), std::invalid_argument);
}

TEST_CASE("Transformer: step by step it gives the rows of one call, whatever its positions, heads, window and rules") {
  const Tensor tokens = some_tokens({2, 9});
  Rng rng(5);
  const Tensor bias = randn({9, 9}, rng, f64);
  for (const Positions positions :
       {Positions::none, Positions::learned, Positions::sinusoidal, Positions::rotary, Positions::alibi})
    for (const int variant : {0, 1, 2, 3}) {
      TransformerConfig config = small();
      config.positions = positions;
      if (variant >= 1) config.block.projections.kv_heads = 2;
      if (variant == 1) config.attention.window = 3;
      if (variant == 2) config.block.norm_place = NormPlace::post;
      if (variant == 2) config.attention.weighting = Weighting::off_by_one;
      if (variant == 3) {
        config.attention.bias = bias;
        config.attention.mask = window_mask(9, 4);
        config.attention.soft_cap = 2.0;
      }
      CAPTURE(int(positions));
      CAPTURE(variant);
      const Transformer model = built(config);
      REQUIRE(model.can_step());
      const Tensor whole = model(tokens);
      TransformerCache cache;
      std::int64_t at = 0;
      for (const std::int64_t length : {4, 1, 1, 2, 1}) {
        CHECK(off(model.step(part(tokens, at, at + length), cache), part(whole, at, at + length)) < 1e-12);
        at += length;
        CHECK(cache.length == at);
      }
      CHECK_THROWS_WITH_AS(model.step(part(tokens, 0, 1), cache),
                           "Transformer: 1 token after 9 would exceed the context of 9", std::invalid_argument);
    }
}

TEST_CASE("Transformer: a step computes the new token alone") {
  const Transformer model = built(small());
  TransformerCache cache;
  model.step(some_tokens({2, 5}), cache);
  Probe look;
  model.step(some_tokens({2, 1}), cache);
  CHECK(look["blocks.1.attention.Q"].shape() == Shape{2, 1, 8});
  CHECK(look["blocks.1.attention.K"].shape() == Shape{2, 1, 8});
  CHECK(look["blocks.1.attention.scores"].shape() == Shape{8, 1, 6});
  CHECK(look["logits"].shape() == Shape{2, 1, 11});
}

TEST_CASE("Transformer: it does not go step by step when later tokens would change earlier rows") {
  TransformerConfig encoder = small(), log_n = small(), sigmoid = small();
  encoder.causal = false;
  log_n.attention.scale = Scale::log_n();
  sigmoid.attention.weighting = Weighting::sigmoid;
  TransformerCache cache;
  for (const TransformerConfig& config : {encoder, log_n, sigmoid}) {
    const Transformer model = built(config);
    CHECK(!model.can_step());
    CHECK_THROWS_WITH_AS(model.step(some_tokens({1, 2}), cache), doctest::Contains("cannot go step by step"),
                         std::invalid_argument);
  }
  sigmoid.attention.sigmoid_bias = -1.0;
  CHECK(built(sigmoid).can_step());
}

TEST_CASE("generate: greedily, it is the argmax of one call after the other") {
  for (const Positions positions : {Positions::learned, Positions::alibi})
    for (const bool counts_keys : {false, true}) {   // true: cannot go step by step
      TransformerConfig config = small();
      config.positions = positions;
      if (counts_keys) config.attention.scale = Scale::log_n();
      const Transformer model = built(config);
      Tensor expected = some_tokens({3, 4});
      const Tensor made = generate(model, expected, 5);
      while (expected.shape(1) < 9)
        expected = concat({expected, argmax(slice(model(expected), 1, -1), -1)}, 1);
      CHECK(off(made, expected) == 0.0);
    }
  const Transformer model = built(small());
  CHECK(off(generate(model, some_tokens({3, 4}), 0), some_tokens({3, 4})) == 0.0);
}

TEST_CASE("generate: tokens are drawn with the probabilities of softmax at that temperature, among the top k") {
  const Transformer model = built(small());
  const Tensor start = tensor({1, 2, 3}, {1, 3});
  const Tensor logits = reshape(slice(model(start), 1, -1), {11});
  constexpr std::int64_t draws = 20000;
  const Tensor many = broadcast_to(start, {draws, 3});
  for (const double temperature : {1.0, 2.5})
    for (const std::int64_t top_k : {0, 4, 50}) {
      Rng rng(7);
      const GenerateOptions options{.temperature = temperature, .top_k = top_k, .rng = &rng};
      const Tensor drawn = slice(generate(model, many, 1, options), 1, 3);
      const Tensor share = mean(one_hot(reshape(drawn, {draws}), 11, f64), 0);
      Tensor kept = logits / temperature;
      if (top_k == 4) {
        std::vector<double> sorted(kept.values<double>().begin(), kept.values<double>().end());
        std::sort(sorted.rbegin(), sorted.rend());
        kept = masked_fill(kept, kept < sorted[3], -INFINITY);
        CHECK(sum((share > 0.0).to(f64)).item() <= 4.0);
      }
      CHECK(off(share, softmax(kept)) < 5.0 * 0.5 / std::sqrt(double(draws)));
    }
}

TEST_CASE("generate: the same random numbers give the same tokens; top_k = 1 and temperature 0 are greedy") {
  const Transformer model = built(small());
  const Tensor start = some_tokens({2, 3});
  Rng a(4), b(4), c(4);
  const Tensor one = generate(model, start, 6, {.rng = &a});
  CHECK(off(one, generate(model, start, 6, {.rng = &b})) == 0.0);
  CHECK(off(one, generate(model, start, 6)) > 0.0);
  CHECK(off(generate(model, start, 6, {.top_k = 1, .rng = &c}), generate(model, start, 6)) == 0.0);
  CHECK(off(generate(model, start, 6, {.temperature = 0.0, .rng = &c}), generate(model, start, 6)) == 0.0);
}

TEST_CASE("generate builds no graph and drops nothing") {
  TransformerConfig config = small();
  config.block.dropout = 0.5;
  const Transformer model = built(config);
  const Probe look("logits");
  Rng rng(1);
  generate(model, some_tokens({1, 3}), 2, {.rng = &rng});
  CHECK(off(slice(look.seen()[0].second, 1, -1), slice(model(some_tokens({1, 3})), 1, -1)) < 1e-12);
  CHECK_THROWS_AS(grad(sum(look.seen()[0].second), {model.embedding.weight}), std::invalid_argument);
}

TEST_CASE("generate refuses what it cannot do in one sentence") {
  const Transformer model = built(small());
  const Tensor start = some_tokens({2, 4});
  Rng rng(1);
  const auto refused = [&](const std::string& sentence, std::int64_t n, const GenerateOptions& options) {
    CHECK_THROWS_WITH_AS(generate(model, start, n, options), sentence.c_str(), std::invalid_argument);
  };
  refused("generate: 4 tokens and 6 more would exceed the context of 9", 6, {});
  refused("generate: n = -1 must not be negative", -1, {});
  refused("generate: temperature = -1 must be positive, or 0 for the likeliest token", 1, {.temperature = -1.0});
  refused("generate: temperature = nan must be positive, or 0 for the likeliest token", 1, {.temperature = NAN});
  refused("generate: top_k = -2 must be positive, or 0 for all tokens", 1, {.top_k = -2});
  CHECK_THROWS_WITH_AS(generate(model, zeros({2, 4}), 1),
                       "generate: tokens float32 [2, 4] must be int64 [batch, T] with T at least 1",
                       std::invalid_argument);
  CHECK_THROWS_AS(generate(model, tensor({11}, {1, 1}), 1), std::out_of_range);
  TransformerConfig config = small();
  config.head = false;
  CHECK_THROWS_WITH_AS(generate(built(config), start, 1), "generate: the model has no head, so it gives no logits",
                       std::invalid_argument);
  Transformer broken = built(small());
  broken.embedding.weight.assign(full({11, 8}, NAN, f64));
  CHECK_THROWS_WITH_AS(generate(broken, start, 1, {.rng = &rng}), "generate: a logit is nan", std::invalid_argument);
}

}
