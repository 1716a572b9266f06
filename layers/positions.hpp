// Positions: where a token stands, learned, as sines, or by rotation.
#pragma once

#include "framework/framework.hpp"
#include "framework/parameters.hpp"

namespace surgeon {

// One learned vector per place, N(0, 1) at first as PyTorch's nn.Embedding.
struct LearnedPositions {
  LearnedPositions(std::int64_t places, std::int64_t d_model, Rng& rng, Dtype dtype = Dtype::float32);
  // x [..., T, d_model] + weight[0 .. T-1]; std::invalid_argument for more tokens than places.
  Tensor operator()(const Tensor& x) const;
  Parameters parameters() const;   // weight [places, d_model]

  Tensor weight;
};

// [T, d_model]: sin(t / 10000^(2i / d_model)) at 2i, cos of the same at 2i + 1. Vaswani et al. 2017, section 3.5.
Tensor sinusoidal_positions(std::int64_t T, std::int64_t d_model, Dtype dtype = Dtype::float32);

// x [..., T, d], d even; T may lie on another axis before the last. At place t the pair (x_i, x_{i + d/2}) turns by the
// angle t / base^(2i / d), so that the product of a rotated query and a rotated key depends on their distance only.
// Su 2021, arXiv 2104.09864; pairs as in GPT-NeoX and Llama.
Tensor rotary(const Tensor& x, double base = 10000.0, int axis_of_places = -2);

}  // namespace surgeon
