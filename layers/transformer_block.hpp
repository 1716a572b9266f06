// TransformerBlock: attention, then a feed-forward network, each with a norm and a residual connection.
#pragma once

#include <functional>
#include <optional>

#include "layers/attention_layer.hpp"
#include "layers/dropout.hpp"
#include "layers/feed_forward.hpp"
#include "layers/layer_norm.hpp"
#include "layers/multi_head_attention.hpp"

namespace surgeon {

// pre: x + f(norm(x)), Xiong 2020, arXiv 2002.04745.  post: norm(x + f(x)), Vaswani et al. 2017.
enum class NormPlace { pre, post };

struct BlockConfig;
// Makes an attention layer of one's own from the block's sizes and its random numbers.
using MakeAttention = std::function<AttentionLayer(const BlockConfig& config, Rng& rng)>;

struct BlockConfig {
  std::int64_t d_model = 64;
  std::int64_t heads = 4;
  std::int64_t hidden = 0;              // width of the feed-forward network; 0: 4 d_model
  NormPlace norm_place = NormPlace::pre;
  NormKind norm = NormKind::layer;
  Activation activation = Activation::gelu;
  double dropout = 0.0;                 // of attention weights, and of what each half adds to the stream
  MultiHeadConfig projections = {};     // grouped queries, biases, learned scale, rotary positions
  Dtype dtype = Dtype::float32;
  // Set: the layer it makes takes the place of MultiHeadAttention, its parameters are named "attention.*", and a
  // Transformer starts its weights of rank 2 like all others. [](const BlockConfig& c, Rng& rng) { return Mine(...); }
  MakeAttention make_attention = {};
};

struct TransformerBlock {
  TransformerBlock(const BlockConfig& config, Rng& rng);
  // x [B, T, d_model]. Options as for MultiHeadAttention; dropout is on when options.rng is set.
  // Probes: attention.*, middle (the stream between the halves), feed_forward.*, output.
  AttentionResult operator()(const Tensor& x, const AttentionOptions& options = {}) const;
  // x follows the tokens in the cache: see MultiHeadAttention. std::invalid_argument for an own attention without step.
  AttentionResult step(const Tensor& x, KeyValueCache& cache, const AttentionOptions& options = {}) const;
  Parameters parameters() const;   // norm1.*, attention.*, norm2.*, feed_forward.*

  NormPlace norm_place;
  Norm norm1, norm2;
  MultiHeadAttention attention;                  // empty when there is another:
  std::optional<AttentionLayer> own_attention;   // made by BlockConfig::make_attention
  FeedForward feed_forward;
  Dropout dropout;

 private:
  // cache: null for all tokens at once.
  AttentionResult attend(const Tensor& x, KeyValueCache* cache, const AttentionOptions& options) const;
  AttentionResult forward(const Tensor& x, KeyValueCache* cache, const AttentionOptions& options) const;
};

}  // namespace surgeon
