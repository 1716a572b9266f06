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
  // added to ALiBi's; a mask holds together with a call's. rng and return_weights are refused: they belong to a call.
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

struct Transformer {
  // Weights start as GPT-2's (initialise.hpp); for another rule call initialise() afterwards.
  Transformer(const TransformerConfig& config, Rng& rng);
  // tokens: int64 [B, T], 1 <= T <= context. Probes: embedding, blocks.0.attention.scores, ..., norm, logits.
  Tensor operator()(const Tensor& tokens, const ForwardOptions& options = {}) const;
  TransformerResult look(const Tensor& tokens, const ForwardOptions& options = {}) const;   // with weights and scores
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
};

}  // namespace surgeon
