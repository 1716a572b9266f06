#include "layers/transformer.hpp"

#include <algorithm>
#include <string>

#include "framework/errors.hpp"
#include "framework/probe.hpp"
#include "layers/collect.hpp"
#include "layers/initialise.hpp"
#include "layers/masks.hpp"

namespace surgeon {

namespace {

TransformerConfig checked(TransformerConfig config) {
  require(config.vocabulary >= 1 && config.context >= 1 && config.layers >= 0, "Transformer: vocabulary = ",
          config.vocabulary, ", context = ", config.context, ", layers = ", config.layers,
          ": needs a vocabulary and a context of at least 1, and no negative number of layers");
  require(!config.attention.rng && !config.attention.return_weights && !config.attention.return_stats,
          "Transformer: config.attention sets rng, return_weights or return_stats, which belong to a call "
          "(ForwardOptions, look)");
  if (config.positions == Positions::rotary && config.block.projections.rotary_base == 0.0)
    config.block.projections.rotary_base = 10000.0;
  return config;
}

// A batch entry's own mask holds for all of its heads.
Tensor over_heads(const Tensor& mask) {
  const Shape& s = mask.shape();
  return mask.rank() == 3 ? reshape(mask, {s[0], 1, s[1], s[2]}) : mask;
}

// The rows first .. end - 1 and the columns 0 .. end - 1 of a mask or bias for a whole sequence.
Tensor cut(Tensor table, std::int64_t first, std::int64_t end) {
  if (table.rank() >= 1 && table.shape(-1) > 1) table = slice(table, -1, 0, end);
  if (table.rank() >= 2 && table.shape(-2) > 1) table = slice(table, -2, first, end);
  return table;
}

// The rules of every block in one call with tokens first .. first + T - 1. rules: the model's own.
AttentionOptions rules_of(AttentionOptions rules, const TransformerConfig& config, std::int64_t first, std::int64_t T,
                          const ForwardOptions& call) {
  if (rules.mask.empty()) rules.mask = call.mask;
  else if (call.mask.defined()) rules.mask = both(over_heads(rules.mask), over_heads(call.mask));
  rules.causal = rules.causal || config.causal;
  rules.rng = call.rng;
  if (config.positions == Positions::alibi) {
    const Tensor alibi = alibi_bias(config.block.heads, T, first + T, config.block.dtype);
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

Tensor Transformer::embedded(const Tensor& tokens, std::int64_t first, Rng* rng) const {
  require_value("Transformer", tokens);
  require(tokens.rank() == 2 && tokens.shape(1) >= 1 && tokens.shape(1) <= config.context, "Transformer: tokens ",
          tokens.shape(), " must be [batch, T] with T between 1 and ", config.context);
  const std::int64_t T = tokens.shape(1);
  require(first + T <= config.context, "Transformer: ", T, T == 1 ? " token" : " tokens", " after ", first,
          " would exceed the context of ", config.context);
  Tensor x = embedding(tokens);   // [B, T, d_model]
  if (positions) x = (*positions)(x, first);
  if (config.positions == Positions::sinusoidal)
    x = x + sinusoidal_positions(T, config.block.d_model, config.block.dtype, first);
  if (config.block.dropout > 0.0) x = Dropout(config.block.dropout)(x, rng);
  return probe("embedding", x);
}

Tensor Transformer::read_out(const Tensor& x) const {
  const Tensor y = norm ? probe("norm", (*norm)(x)) : x;
  if (!config.head) return y;
  return probe("logits", head ? (*head)(y) : linear(y, embedding.weight));
}

TransformerResult Transformer::forward(const Tensor& tokens, const ForwardOptions& options, bool keep) const {
  Tensor x = embedded(tokens, 0, options.rng);
  AttentionOptions each_call = rules(tokens.shape(1), options);
  each_call.return_weights = keep;
  TransformerResult result;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    ProbeScope scope("blocks." + std::to_string(i));
    AttentionResult each = blocks[i](x, each_call);
    x = each.output;
    if (keep) result.blocks.push_back(std::move(each));
  }
  result.output = read_out(x);
  return result;
}

AttentionOptions Transformer::rules(std::int64_t T, const ForwardOptions& call) const {
  return rules_of(config.attention, config, 0, T, call);
}

Tensor Transformer::operator()(const Tensor& tokens, const ForwardOptions& options) const {
  return forward(tokens, options, false).output;
}

TransformerResult Transformer::look(const Tensor& tokens, const ForwardOptions& options) const {
  return forward(tokens, options, true);
}

bool Transformer::can_step() const {
  const AttentionOptions& own = config.attention;
  const bool counts_keys = own.scale.counts_keys() || (own.weighting == Weighting::sigmoid && !own.sigmoid_bias);
  const bool all_step = std::all_of(blocks.begin(), blocks.end(), [](const TransformerBlock& block) {
    return !block.own_attention || block.own_attention->step;
  });
  return (config.causal || own.causal) && !counts_keys && all_step;
}

Tensor Transformer::step(const Tensor& tokens, TransformerCache& cache, const ForwardOptions& options) const {
  require(can_step(), "Transformer: cannot go step by step: it must be causal, its attention must have a step, and no "
          "rule may depend on the number of keys (Scale::log_n, sigmoid without sigmoid_bias)");
  require(cache.blocks.size() == blocks.size() || cache.length == 0, "Transformer: the cache has ", cache.blocks.size(),
          " blocks, the model has ", blocks.size());
  Tensor x = embedded(tokens, cache.length, options.rng);
  const std::int64_t T = tokens.shape(1);
  AttentionOptions own = config.attention;
  own.mask = cut(own.mask, cache.length, cache.length + T);
  own.bias = cut(own.bias, cache.length, cache.length + T);
  const AttentionOptions each_call = rules_of(std::move(own), config, cache.length, T, options);
  TransformerCache next = cache;   // so that a refusal leaves the cache as it was
  next.length += T;
  next.blocks.resize(blocks.size());
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    ProbeScope scope("blocks." + std::to_string(i));
    x = blocks[i].step(x, next.blocks[i], each_call).output;
  }
  const Tensor output = read_out(x);
  cache = std::move(next);
  return output;
}

Parameters Transformer::parameters() const {
  return collect("embedding", embedding, "positions", positions, "blocks", blocks, "norm", norm, "head", head);
}

}  // namespace surgeon
