#include "layers/transformer.hpp"

#include <string>

#include "framework/errors.hpp"
#include "framework/probe.hpp"
#include "layers/initialise.hpp"
#include "layers/masks.hpp"

namespace surgeon {


namespace {

TransformerConfig checked(TransformerConfig config) {
  require(config.vocabulary >= 1 && config.context >= 1 && config.layers >= 0, "Transformer: vocabulary = ",
          config.vocabulary, ", context = ", config.context, ", layers = ", config.layers,
          ": needs a vocabulary and a context of at least 1, and no negative number of layers");
  require(!config.attention.rng && !config.attention.return_weights,
          "Transformer: config.attention sets rng or return_weights, which belong to a call (ForwardOptions, look)");
  if (config.positions == Positions::rotary && config.block.projections.rotary_base == 0.0)
    config.block.projections.rotary_base = 10000.0;
  return config;
}

// A batch entry's own mask holds for all of its heads.
Tensor over_heads(const Tensor& mask) {
  const Shape& s = mask.shape();
  return mask.rank() == 3 ? reshape(mask, {s[0], 1, s[1], s[2]}) : mask;
}

// The rules of every block in one call.
AttentionOptions rules_of(const TransformerConfig& config, std::int64_t T, const ForwardOptions& call) {
  AttentionOptions rules = config.attention;
  if (rules.mask.empty()) rules.mask = call.mask;
  else if (call.mask.defined()) rules.mask = both(over_heads(rules.mask), over_heads(call.mask));
  rules.causal = rules.causal || config.causal;
  rules.rng = call.rng;
  if (config.positions == Positions::alibi) {
    const Tensor alibi = alibi_bias(config.block.heads, T, config.block.dtype);
    rules.bias = rules.bias.empty() ? alibi : rules.bias + alibi;
  }
  return rules;
}

}  // namespace

Transformer::Transformer(const TransformerConfig& asked, Rng& rng)
    : config(checked(asked)), embedding(config.vocabulary, config.block.d_model, rng, config.block.dtype) {
  const BlockConfig& block = config.block;
  if (config.positions == Positions::learned) positions.emplace(config.context, block.d_model, rng, block.dtype);
  for (std::int64_t i = 0; i < config.layers; ++i) blocks.emplace_back(block, rng);
  if (block.norm_place == NormPlace::pre) norm.emplace(block.norm, block.d_model, block.dtype);
  if (config.head && !config.tied) head.emplace(block.d_model, config.vocabulary, rng, block.dtype, false);
  initialise(parameters(), Init::gpt2, rng);
}

TransformerResult Transformer::forward(const Tensor& tokens, const ForwardOptions& options, bool keep) const {
  require_value("Transformer", tokens);
  require(tokens.rank() == 2 && tokens.shape(1) >= 1 && tokens.shape(1) <= config.context, "Transformer: tokens ",
          tokens.shape(), " must be [batch, T] with T between 1 and ", config.context);
  const std::int64_t T = tokens.shape(1);
  AttentionOptions rules = rules_of(config, T, options);
  rules.return_weights = keep;

  Tensor x = embedding(tokens);   // [B, T, d_model]
  if (positions) x = (*positions)(x);
  if (config.positions == Positions::sinusoidal)
    x = x + sinusoidal_positions(T, config.block.d_model, config.block.dtype);
  if (config.block.dropout > 0.0) x = Dropout(config.block.dropout)(x, options.rng);
  x = probe("embedding", x);
  TransformerResult result;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    ProbeScope scope("blocks." + std::to_string(i));
    AttentionResult each = blocks[i](x, rules);
    x = each.output;
    if (keep) result.blocks.push_back(std::move(each));
  }
  if (norm) x = probe("norm", (*norm)(x));
  if (config.head) x = probe("logits", head ? (*head)(x) : linear(x, embedding.weight));
  result.output = x;
  return result;
}

Tensor Transformer::operator()(const Tensor& tokens, const ForwardOptions& options) const {
  return forward(tokens, options, false).output;
}

TransformerResult Transformer::look(const Tensor& tokens, const ForwardOptions& options) const {
  return forward(tokens, options, true);
}

Parameters Transformer::parameters() const {
  Parameters all;
  all.add("embedding", embedding.parameters());
  if (positions) all.add("positions", positions->parameters());
  for (std::size_t i = 0; i < blocks.size(); ++i) all.add("blocks." + std::to_string(i), blocks[i].parameters());
  if (norm) all.add("norm", norm->parameters());
  if (head) all.add("head", head->parameters());
  return all;
}

}  // namespace surgeon
