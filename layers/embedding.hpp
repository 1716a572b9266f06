// Embedding: a learned vector for each token.
#pragma once

#include "framework/framework.hpp"
#include "framework/parameters.hpp"

namespace surgeon {

struct Embedding {
  // The weight starts as N(0, 1), like PyTorch's nn.Embedding.
  Embedding(std::int64_t vocabulary, std::int64_t d_model, Rng& rng, Dtype dtype = Dtype::float32);
  Tensor operator()(const Tensor& tokens) const;   // int64 [...] -> [..., d_model]
  Parameters parameters() const;                   // weight [vocabulary, d_model]

  Tensor weight;
};

}  // namespace surgeon
