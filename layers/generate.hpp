// generate: a Transformer goes on from the tokens it is given.
#pragma once

#include "layers/transformer.hpp"

namespace surgeon {

struct GenerateOptions {
  double temperature = 1.0;   // logits are divided by it before the draw; 0: the likeliest token each time
  std::int64_t top_k = 0;     // > 0: drawn among the k likeliest only. Fan 2018, arXiv 1805.04833, section 5.4
  Rng* rng = nullptr;         // for the draws; without them the likeliest token each time, the first of equals
};

// int64 [B, T] -> [B, T + n]: the tokens given and n more, each chosen by the logits of the last place. A new token
// costs time in proportion to those so far; in a model that cannot go step by step (Transformer::can_step), a call with
// all of them. Builds no graph; no dropout. std::invalid_argument when T + n exceeds the model's context, for a model
// without a head, options outside their range, and logits that are nan or +inf when there is something to draw.
Tensor generate(const Transformer& model, const Tensor& tokens, std::int64_t n, const GenerateOptions& options = {});

}  // namespace surgeon
