#include "layers/transformer_block.hpp"

#include "framework/errors.hpp"
#include "framework/probe.hpp"
#include "layers/collect.hpp"

namespace surgeon {

namespace {

MultiHeadAttention usual_attention(const BlockConfig& config, Rng& rng) {
  if (config.make_attention) return {};
  return MultiHeadAttention(config.d_model, config.heads, config.projections, rng, config.dtype);
}

}  // namespace

TransformerBlock::TransformerBlock(const BlockConfig& config, Rng& rng)
    : norm_place(config.norm_place), norm1(config.norm, config.d_model, config.dtype),
      norm2(config.norm, config.d_model, config.dtype),
      attention(usual_attention(config, rng)),
      own_attention(config.make_attention ? std::optional(config.make_attention(config, rng)) : std::nullopt),
      feed_forward(config.d_model, config.hidden > 0 ? config.hidden : 4 * config.d_model, rng, config.activation,
                   config.dtype, config.projections.bias),
      dropout(config.dropout) {}

AttentionResult TransformerBlock::operator()(const Tensor& x, const AttentionOptions& options) const {
  return forward(x, nullptr, options);
}

AttentionResult TransformerBlock::step(const Tensor& x, KeyValueCache& cache, const AttentionOptions& options) const {
  require(!own_attention || own_attention->step, "TransformerBlock: its own attention layer has no step, which a "
          "KeyValueCache needs");
  KeyValueCache grown = cache;
  AttentionResult result = forward(x, &grown, options);
  cache = std::move(grown);
  return result;
}

AttentionResult TransformerBlock::attend(const Tensor& x, KeyValueCache* cache, const AttentionOptions& options) const {
  const ProbeScope scope("attention");
  const Tensor input = probe("input", norm_place == NormPlace::pre ? norm1(x) : x);
  if (!own_attention) return cache ? attention.step(input, *cache, options) : attention(input, options);
  AttentionResult result =
      cache ? own_attention->step(input, *cache, options) : own_attention->forward(input, options);
  require(result.output.shape() == x.shape(), "TransformerBlock: its own attention layer gave ", result.output.shape(),
          " for x ", x.shape());
  return result;
}

AttentionResult TransformerBlock::forward(const Tensor& x, KeyValueCache* cache,
                                          const AttentionOptions& options) const {
  AttentionOptions rules = options;
  if (rules.dropout == 0.0) rules.dropout = dropout.p;
  const bool pre = norm_place == NormPlace::pre;
  AttentionResult result = attend(x, cache, rules);
  Tensor y = x + dropout(result.output, options.rng);
  if (!pre) y = norm1(y);
  y = probe("middle", y);
  Tensor added;
  {
    ProbeScope scope("feed_forward");
    added = feed_forward(pre ? probe("input", norm2(y)) : y);
  }
  y = y + dropout(added, options.rng);
  result.output = probe("output", pre ? y : norm2(y));
  return result;
}

Parameters TransformerBlock::parameters() const {
  const Parameters own = own_attention ? own_attention->parameters() : attention.parameters();
  return collect("norm1", norm1, "attention", own, "norm2", norm2, "feed_forward", feed_forward);
}

}  // namespace surgeon
