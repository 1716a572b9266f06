// Transformer: tokens to logits (a decoder, like GPT), or tokens to vectors (an encoder, like BERT).
#pragma once

#include <optional>
#include <vector>

#include "layers/embedding.hpp"
#include "layers/positions.hpp"
#include "layers/transformer_block.hpp"

namespace surgeon {

enum class Positions { none, learned, sinusoidal, rotary, alibi };

struct TransformerConfig {
  std::int64_t vocabulary = 0;
  std::int64_t context = 64;       // the longest sequence, in tokens
  std::int64_t layers = 2;
  BlockConfig block = {};          // d_model, heads, norms, activation, dropout, dtype
  Positions positions = Positions::learned;
  bool causal = true;              // a decoder; false: an encoder, in which each token sees all others
  bool head = true;                // output logits over the vocabulary; false: the vectors after the last norm
  bool tied = true;                // the head is the transposed embedding. Press & Wolf 2017, arXiv 1608.05859
  // For every block: scale, soft_cap, weighting, window, ... The model is causal if this or `causal` says so; a bias is
  // added to ALiBi's; a mask holds together with a call's. rng, return_weights and return_stats are refused: they
  // belong to a call.
  AttentionOptions attention = {};
};

// What one call adds.
struct ForwardOptions {
  Tensor mask = {};                // as for MultiHeadAttention: padding, for instance
  Rng* rng = nullptr;              // dropout is on when this is set
};

struct TransformerResult {
  Tensor output;                            // [B, T, vocabulary], or [B, T, d_model] without a head
  std::vector<AttentionResult> blocks;      // for each block, its output and its attention weights and scores
};

// The tokens that a Transformer has read, step by step; empty before the first. (generate.hpp uses it.)
struct TransformerCache {
  std::int64_t length = 0;                  // how many
  std::vector<KeyValueCache> blocks = {};   // for each block, their keys and values
};

struct Transformer {
  // Weights start as GPT-2's (initialise.hpp); for another rule call initialise() afterwards.
  Transformer(const TransformerConfig& config, Rng& rng);
  // tokens: int64 [B, T], 1 <= T <= context. Probes: embedding, blocks.0.attention.scores, ..., norm, logits.
  Tensor operator()(const Tensor& tokens, const ForwardOptions& options = {}) const;
  TransformerResult look(const Tensor& tokens, const ForwardOptions& options = {}) const;   // with weights and scores
  // Reads tokens [B, T] that follow those in the cache, and adds them to it. The result has the rows for these that one
  // call with all tokens would give, but for rounding, at the cost of T rows of scores. A call's mask is [..., T, all
  // so far]; the configuration's mask and bias are cut to these rows and columns. std::invalid_argument past the
  // context, and for a model whose earlier rows change when tokens follow (can_step() is false); the cache then stays
  // as it was.
  Tensor step(const Tensor& tokens, TransformerCache& cache, const ForwardOptions& options = {}) const;
  // Whether step may be called: the model is causal, its own attention (if any) has a step, and no rule counts the keys
  // (Scale::log_n, and Weighting::sigmoid without a sigmoid_bias).
  bool can_step() const;
  // What every block's attention is called with for T tokens: the model's own rules, ALiBi and what a call adds.
  AttentionOptions rules(std::int64_t T, const ForwardOptions& call = {}) const;
  // embedding.weight, positions.weight, blocks.0.norm1.weight, ..., norm.weight, head.weight unless tied
  Parameters parameters() const;

  TransformerConfig config;
  Embedding embedding;
  std::optional<LearnedPositions> positions;
  std::vector<TransformerBlock> blocks;
  std::optional<Norm> norm;                 // after the last block; NormPlace::pre only
  std::optional<Linear> head;

 private:
  TransformerResult forward(const Tensor& tokens, const ForwardOptions& options, bool keep) const;
  Tensor embedded(const Tensor& tokens, std::int64_t first, Rng* rng) const;
  Tensor read_out(const Tensor& x) const;
};

}  // namespace surgeon
