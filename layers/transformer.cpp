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
  if (config.positions == Positions::rotary && config.block.projections.rotary_base == 0.0)
    config.block.projections.rotary_base = 10000.0;
  return config;
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
  AttentionOptions rules = config.attention;
  rules.mask = options.mask;
  rules.causal = config.causal;
  rules.rng = options.rng;
  rules.return_weights = keep;
  if (config.positions == Positions::alibi) rules.bias = alibi_bias(config.block.heads, T, config.block.dtype);

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
