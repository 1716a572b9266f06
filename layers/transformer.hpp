// Transformer: tokens in, logits out (a decoder as GPT's), or vectors out (an encoder as BERT's).
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
  std::int64_t context = 64;       // the most tokens it takes
  std::int64_t layers = 2;
  BlockConfig block = {};          // d_model, heads, norms, activation, dropout, dtype
  Positions positions = Positions::learned;
  bool causal = true;              // a decoder; false: an encoder, where each token sees all of them
  bool head = true;                // logits over the vocabulary; false: the vectors after the last norm
  bool tied = true;                // the head is the embedding, transposed. Press & Wolf 2017, arXiv 1608.05859
  AttentionOptions attention = {}; // score rules of every block: scale, soft_cap, weighting, window, ...
};

// What one call adds to the rules.
struct ForwardOptions {
  Tensor mask = {};                // as attention has it: padding, say
  Rng* rng = nullptr;              // set: dropout is on
};

struct TransformerResult {
  Tensor output;                            // [B, T, vocabulary], or [B, T, d_model] without a head
  std::vector<AttentionResult> blocks;      // of each block: what it gives on, its weights and scores
};

struct Transformer {
  // Weights as GPT-2 starts them (initialise.hpp), for any other call initialise() afterwards.
  Transformer(const TransformerConfig& config, Rng& rng);
  // tokens int64 [B, T]. Probes: embedding, blocks.0.attention.scores, ..., norm, logits.
  Tensor operator()(const Tensor& tokens, const ForwardOptions& options = {}) const;
  TransformerResult look(const Tensor& tokens, const ForwardOptions& options = {}) const;   // with weights and scores
  // embedding.weight, positions.weight, blocks.0.norm1.weight, ..., norm.weight, head.weight when it is not tied
  Parameters parameters() const;

  TransformerConfig config;
  Embedding embedding;
  std::optional<LearnedPositions> positions;
  std::vector<TransformerBlock> blocks;
  std::optional<Norm> norm;                 // after the last block, when norms come first
  std::optional<Linear> head;

 private:
  TransformerResult forward(const Tensor& tokens, const ForwardOptions& options, bool keep) const;
};

}  // namespace surgeon
