// float32, forward and backward, as one would write them with the library.
#include "experiments/bench/works.hpp"

#include <fmt/format.h>

#include <memory>

#include "framework/framework.hpp"
#include "framework/optim.hpp"
#include "layers/layers.hpp"

namespace surgeon::bench {
namespace {

using Run = std::function<void()>;

Tensor normal(const Shape& shape, std::uint64_t seed) {
  Rng rng(seed);
  return randn(shape, rng);
}

Run attention_run(std::int64_t B, std::int64_t T, std::int64_t d, bool causal) {
  const Tensor Q = normal({B, T, d}, 1), K = normal({B, T, d}, 2), V = normal({B, T, d}, 3), G = normal({B, T, d}, 4);
  return [=] { grad(attention(Q, K, V, {.causal = causal}).output, {Q, K, V}, {.cotangent = G}); };
}

// The products of attention alone: two forward, four back.
Run attention_products(std::int64_t B, std::int64_t T, std::int64_t d) {
  const Tensor Q = normal({B, T, d}, 1), K = normal({B, T, d}, 2), V = normal({B, T, d}, 3), P = normal({B, T, T}, 4);
  return [=] {
    const NoRecord pause;
    for (int i = 0; i < 2; ++i) {
      matmul(Q, K, {.transpose_b = true});
      matmul(P, V);
      matmul(P, V, {.transpose_a = true});
    }
  };
}

Run heads_run(std::int64_t d_model, std::int64_t heads, std::int64_t B, std::int64_t T, bool causal) {
  Rng rng(5);
  const auto mha = std::make_shared<MultiHeadAttention>(d_model, heads, rng);
  const Tensor x = normal({B, T, d_model}, 6), G = normal({B, T, d_model}, 7);
  std::vector<Tensor> xs = mha->parameters().tensors();
  xs.push_back(x);
  return [=] { grad((*mha)(x, {.causal = causal}).output, xs, {.cotangent = G}); };
}

// Four projections, forward and twice back, and attention's six products.
Run heads_products(std::int64_t d_model, std::int64_t heads, std::int64_t B, std::int64_t T) {
  const Run attention = attention_products(B * heads, T, d_model / heads);
  const Tensor x = normal({B * T, d_model}, 6), W = normal({d_model, d_model}, 7);
  return [=] {
    const NoRecord pause;
    for (int i = 0; i < 4; ++i) {
      matmul(x, W, {.transpose_b = true});
      matmul(x, W);
      matmul(x, x, {.transpose_a = true});
    }
    attention();
  };
}

Run gpt_run(std::int64_t layers, std::int64_t d_model, std::int64_t heads, std::int64_t T, std::int64_t B) {
  constexpr std::int64_t vocabulary = 65;
  Rng rng(8);
  TransformerConfig config{.vocabulary = vocabulary, .context = T, .layers = layers, .tied = false};
  config.block.d_model = d_model;
  config.block.heads = heads;
  const auto model = std::make_shared<Transformer>(config, rng);
  const auto optimizer = std::make_shared<AdamW>(model->parameters(), AdamWOptions{.lr = 1e-3});
  const Tensor tokens = randint(0, vocabulary, {B, T}, rng), targets = randint(0, vocabulary, {B * T}, rng);
  return [=] {
    const Tensor loss = cross_entropy(reshape((*model)(tokens), {B * T, vocabulary}), targets);
    optimizer->step(grad(loss, optimizer->parameters().tensors()));
  };
}

Run chain_run(int length) {
  const Tensor x = full({}, 1.0), b = full({}, 0.999);
  return [=] {
    Tensor y = x;
    for (int i = 0; i < length / 2; ++i) y = y * b + b;
    grad(y, {x});
  };
}

Run normals_run(std::int64_t n) {
  const auto rng = std::make_shared<Rng>(9);
  return [=] { randn({n}, *rng); };
}

}  // namespace

const std::vector<Work>& works() {
  static const std::vector<Work> all = [] {
    std::vector<Work> list;
    const auto add = [&](std::string name, std::function<Run()> prepare) { list.push_back({std::move(name), std::move(prepare)}); };
    for (const auto& [B, T] : {std::pair{16, 512}, std::pair{8, 1024}}) {
      const std::string size = fmt::format("({},{},64)", B, T);
      add("attention " + size, [B = B, T = T] { return attention_run(B, T, 64, false); });
      add("attention " + size + " causal", [B = B, T = T] { return attention_run(B, T, 64, true); });
      add("products of attention " + size, [B = B, T = T] { return attention_products(B, T, 64); });
    }
    for (const int d : {16, 256, 1024})
      add(fmt::format("attention (1,10,{})", d), [d] { return attention_run(1, 10, d, false); });
    add("MultiHeadAttention 64/8 (2,10,64)", [] { return heads_run(64, 8, 2, 10, false); });
    struct Size { std::int64_t d_model, heads, B, T; };
    for (const Size& s : {Size{512, 8, 8, 256}, Size{768, 12, 4, 512}}) {
      const std::string size = fmt::format("{}/{} ({},{},{})", s.d_model, s.heads, s.B, s.T, s.d_model);
      add("MultiHeadAttention " + size, [s] { return heads_run(s.d_model, s.heads, s.B, s.T, false); });
      add("MultiHeadAttention " + size + " causal", [s] { return heads_run(s.d_model, s.heads, s.B, s.T, true); });
      add("products of MultiHeadAttention " + size, [s] { return heads_products(s.d_model, s.heads, s.B, s.T); });
    }
    add("GPT step 4x128 T64 B12", [] { return gpt_run(4, 128, 4, 64, 12); });
    add("GPT step 6x384 T256 B8", [] { return gpt_run(6, 384, 6, 256, 8); });
    add("chain of 1000", [] { return chain_run(1000); });
    add("normals 1M", [] { return normals_run(1 << 20); });
    return list;
  }();
  return all;
}

}  // namespace surgeon::bench
