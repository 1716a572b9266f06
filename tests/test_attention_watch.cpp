// The attention of a model as specimens: what is kept of each layer is what attention() makes of it, under every rule.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "layers/layers.hpp"
#include "tests/values.hpp"

using namespace surgeon;

namespace {

TransformerConfig small() {
  TransformerConfig config{.vocabulary = 11, .context = 9, .layers = 2};
  config.block = {.d_model = 12, .heads = 3, .dtype = Dtype::float64};
  return config;
}

double apart(const Tensor& a, const Tensor& b) { return max(abs(a - b)).item(); }

void check_layer(const Specimen& s, bool normalised) {
  CAPTURE(s.name);
  const AttentionResult ours = attention(s.Q, s.K, s.V, s.options());
  CHECK(apart(ours.output, s.output) < 1e-12);
  const auto [dQ, dK, dV] = grad(ours.output, {s.Q, s.K, s.V}, {.cotangent = s.dO});
  CHECK(max(abs(s.dV)).item() > 1e-6);
  CHECK(apart(dV, s.dV) < 1e-12);
  CHECK(s.dQ.defined() != normalised);
  if (!normalised) CHECK(std::max(apart(dQ, s.dQ), apart(dK, s.dK)) < 1e-12);
  CHECK(examine(s).findings.empty());
}

void check_model(const char* rule, const std::function<void(TransformerConfig&)>& change) {
  CAPTURE(rule);
  TransformerConfig config = small();
  change(config);
  Rng rng(3);
  const Transformer model(config, rng);
  for (Tensor w : model.parameters().tensors())   // as after training: scores of size 1, not all but 0
    if (w.rank() == 2) w.assign(randn(w.shape(), rng, w.dtype()) * 0.5);
  const Tensor tokens = randint(0, 11, {2, 9}, rng);
  const AttentionWatch watch;
  const Tensor loss = cross_entropy(model(tokens), randint(0, 11, {2, 9}, rng));
  const std::vector<Specimen> layers = watch.specimens(model, loss);
  REQUIRE(layers.size() == 2);
  CHECK(layers[1].name == "blocks.1");
  for (const Specimen& s : layers) check_layer(s, config.attention.qk_norm != QkNorm::none);
}

}  // namespace

TEST_SUITE("attention_watch") {

TEST_CASE("a watched layer's numbers are those of attention(), under every rule a model may have") {
  check_model("plain", [](TransformerConfig&) {});
  check_model("rotary, two heads of keys", [](TransformerConfig& c) {
    c.positions = Positions::rotary;
    c.block.heads = 6, c.block.projections.kv_heads = 2;
  });
  check_model("ALiBi and a window", [](TransformerConfig& c) {
    c.positions = Positions::alibi;
    c.attention.window = 4;
  });
  check_model("learned scale", [](TransformerConfig& c) { c.block.projections.learned_scale = 0.7; });
  check_model("learned scale, rotary", [](TransformerConfig& c) {
    c.positions = Positions::rotary;
    c.block.projections.learned_scale = -0.4;
  });
  check_model("QK-norm, l2", [](TransformerConfig& c) {
    c.attention.qk_norm = QkNorm::l2;
    c.attention.scale = 10.0;
  });
  check_model("QK-norm, rms, rotary", [](TransformerConfig& c) {
    c.positions = Positions::rotary;
    c.attention.qk_norm = QkNorm::rms;
  });
  check_model("soft cap, no scale", [](TransformerConfig& c) {
    c.attention.soft_cap = 3.0;
    c.attention.scale = false;
  });
  check_model("log n, post-norm", [](TransformerConfig& c) {
    c.attention.scale = Scale::log_n();
    c.block.norm_place = NormPlace::post;
  });
  check_model("encoder", [](TransformerConfig& c) { c.causal = false; });
  check_model("dropout, but none in this pass", [](TransformerConfig& c) { c.block.dropout = 0.5; });
}

TEST_CASE("a call's mask, [B, T, T], is the specimen's; one layer alone is watched under the scope around it") {
  Rng rng(4);
  const Transformer model(small(), rng);
  const Tensor tokens = randint(0, 11, {2, 9}, rng);
  const ForwardOptions call{.mask = padding_mask({9, 5}, 9)};
  const AttentionWatch watch;
  const Tensor loss = cross_entropy(model(tokens, call), tokens);
  for (const Specimen& s : watch.specimens(model, loss, call)) {
    CHECK(s.mask.shape() == Shape{2, 1, 1, 9});
    CHECK(apart(attention(s.Q, s.K, s.V, s.options()).output, s.output) < 1e-12);
  }
  const MultiHeadAttention layer(6, 2, rng, Dtype::float64);
  const Tensor x = randn({1, 4, 6}, rng, Dtype::float64), memory = randn({1, 7, 6}, rng, Dtype::float64);
  {
    const ProbeScope scope("encoder");
    (void)layer(x, memory);
  }
  const Specimen s = watch.specimen(layer, {}, {}, "encoder");
  CHECK(s.K.shape() == Shape{1, 2, 7, 3});
  CHECK(s.dO.empty());
  CHECK(apart(attention(s.Q, s.K, s.V).output, s.output) < 1e-13);
  CHECK_THROWS_AS(watch.specimen(layer, {}), std::out_of_range);   // it did not run outside of the scope
}

TEST_CASE("what a specimen cannot hold is refused") {
  Rng rng(5);
  TransformerConfig config = small();
  const Tensor tokens = randint(0, 11, {1, 9}, rng);
  const AttentionWatch watch;
  CHECK_THROWS_AS(watch.specimens(Transformer(config, rng)), std::out_of_range);
  config.attention.weighting = Weighting::sigmoid;
  const Transformer sigmoid(config, rng);
  (void)sigmoid(tokens);
  CHECK_THROWS_AS(watch.specimens(sigmoid), std::invalid_argument);
  config.attention.weighting = Weighting::softmax;
  config.block.dropout = 0.1;
  const Transformer dropping(config, rng);
  (void)dropping(tokens, {.rng = &rng});
  CHECK_THROWS_AS(watch.specimens(dropping, {}, {.rng = &rng}), std::invalid_argument);
  config.layers = 0;
  CHECK(watch.specimens(Transformer(config, rng)).empty());
}

}
