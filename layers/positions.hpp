// Positions: where a token stands, as learned vectors, as sines, or as a rotation.
#pragma once

#include "framework/framework.hpp"
#include "framework/parameters.hpp"

namespace surgeon {

// One learned vector for each position, starting as N(0, 1) like PyTorch's nn.Embedding.
struct LearnedPositions {
  LearnedPositions(std::int64_t places, std::int64_t d_model, Rng& rng, Dtype dtype = Dtype::float32);
  // x [..., T, d_model] + weight[0 .. T-1]; std::invalid_argument when T > places.
  Tensor operator()(const Tensor& x) const;
  Parameters parameters() const;   // weight [places, d_model]

  Tensor weight;
};

// [T, d_model]: sin(t / 10000^(2i / d_model)) at 2i, cos of the same at 2i + 1. Vaswani et al. 2017, section 3.5.
Tensor sinusoidal_positions(std::int64_t T, std::int64_t d_model, Dtype dtype = Dtype::float32);

// x [..., T, d] with d even; T may also be another axis before the last. At position t the pair (x_i, x_{i + d/2}) is
// rotated by t / base^(2i / d) radians, so that the product of a rotated query and a rotated key depends only on the
// distance between them. Su 2021, arXiv 2104.09864, with pairs as in GPT-NeoX and Llama.
Tensor rotary(const Tensor& x, double base = 10000.0, int axis_of_places = -2);

}  // namespace surgeon
