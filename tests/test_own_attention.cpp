// An attention layer of one's own inside blocks and Transformers, here linear attention; and naming parameters once.
#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <vector>

#include "framework/optim.hpp"
#include "layers/layers.hpp"
#include "tests/layer_tools.hpp"

using namespace surgeon;
using namespace surgeon::tests;

namespace {

// softmax(Q) (softmax(K)^T V), without a T x T table; causal: sums up to each query. Shen 2018, arXiv 1812.01243.
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

TEST_SUITE("own attention") {

TEST_CASE("an attention layer of one's own: a Transformer names, starts and trains it like its own") {
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

  config.make_attention = [](const BlockConfig& c, Rng& draw) {
    return MultiHeadAttention(c.d_model, c.heads, draw, c.dtype);
  };
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

TEST_CASE("an attention layer of one's own: its output must have x's shape; generate needs no step") {
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
                                 "tables", std::vector<Tensor>{ones({1}), Tensor()}, "own",
                                 Parameters{{"a", ones({2})}});
  CHECK(names(all) == "gain[4] in.weight[3, 2] in.bias[3] out.weight[1, 3] blocks.0.weight[3, 2] blocks.0.bias[3] "
                      "blocks.1.weight[1, 3] tables.0[1] own.a[2] ");
  CHECK(all["in.weight"].same(with.weight));
  CHECK(collect().size() == 0);
  CHECK_THROWS_WITH_AS(collect("a", ones({1}), "a", ones({1})), doctest::Contains("the name a occurs twice"),
                       std::invalid_argument);
}

}
