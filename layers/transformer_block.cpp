#include "layers/transformer_block.hpp"

#include "framework/probe.hpp"

namespace surgeon {

TransformerBlock::TransformerBlock(const BlockConfig& config, Rng& rng)
    : norm_place(config.norm_place), norm1(config.norm, config.d_model, config.dtype),
      norm2(config.norm, config.d_model, config.dtype),
      attention(config.d_model, config.heads, config.projections, rng, config.dtype),
      feed_forward(config.d_model, config.hidden > 0 ? config.hidden : 4 * config.d_model, rng, config.activation,
                   config.dtype, config.projections.bias),
      dropout(config.dropout) {}

AttentionResult TransformerBlock::operator()(const Tensor& x, const AttentionOptions& options) const {
  AttentionOptions rules = options;
  if (rules.dropout == 0.0) rules.dropout = dropout.p;
  const bool pre = norm_place == NormPlace::pre;
  AttentionResult result;
  {
    ProbeScope scope("attention");
    result = attention(pre ? probe("input", norm1(x)) : x, rules);
  }
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
  Parameters all;
  all.add("norm1", norm1.parameters());
  all.add("attention", attention.parameters());
  all.add("norm2", norm2.parameters());
  all.add("feed_forward", feed_forward.parameters());
  return all;
}

}  // namespace surgeon
