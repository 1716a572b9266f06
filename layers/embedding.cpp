#include "layers/embedding.hpp"

#include "framework/errors.hpp"

namespace surgeon {

Embedding::Embedding(std::int64_t vocabulary, std::int64_t d_model, Rng& rng, Dtype dtype) {
  require(vocabulary >= 1 && d_model >= 1, "Embedding: vocabulary = ", vocabulary, ", d_model = ", d_model,
                  ": both must be at least 1");
  weight = randn({vocabulary, d_model}, rng, dtype);
}

Tensor Embedding::operator()(const Tensor& tokens) const { return embedding(weight, tokens); }

Parameters Embedding::parameters() const { return {{"weight", weight}}; }

}  // namespace surgeon
