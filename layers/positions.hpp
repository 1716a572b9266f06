// Positions: where a token stands, as learned vectors, as sines, or as a rotation.
#pragma once

#include <type_traits>

#include "framework/framework.hpp"
#include "framework/parameters.hpp"

namespace surgeon {

// One learned vector for each position, starting as N(0, 1) like PyTorch's nn.Embedding.
struct LearnedPositions {
  LearnedPositions(std::int64_t places, std::int64_t d_model, Rng& rng, Dtype dtype = Dtype::float32);
  // x [..., T, d_model] + weight[first .. first + T - 1]; std::invalid_argument for a place that has no vector.
  Tensor operator()(const Tensor& x, std::int64_t first = 0) const;
  Parameters parameters() const;   // weight [places, d_model]

  Tensor weight;
};

// [T, d_model]: sin(t / 10000^(2i / d_model)) at 2i, cos of the same at 2i + 1, for t = first .. first + T - 1.
// Vaswani et al. 2017, section 3.5.
Tensor sinusoidal_positions(std::int64_t T, std::int64_t d_model, Dtype dtype = Dtype::float32, std::int64_t first = 0);

// Which numbers of a vector of width w are rotated together.
//   halves       (x_i, x_{i + w/2}), as in GPT-NeoX and Llama
//   interleaved  (x_2i, x_{2i + 1}), as in the paper and GPT-J
enum class RotaryPairs { halves, interleaved };

struct RotaryOptions {
  double base = 10000.0;
  std::int64_t first = 0;       // the position of the first token; the others follow it
  Tensor positions = {};        // in place of first, one for each token: int64 [T], or [B, T] for x [B, ..., T, ..., d]
  RotaryPairs pairs = RotaryPairs::halves;
  std::int64_t width = 0;       // only the first `width` numbers of each vector are rotated (an even number); 0: all
  int axis_of_places = -2;      // the axis of x that counts tokens; any but the last
};
// x [..., T, d]. At position t, pair i is rotated by t / base^(2i / width) radians, so that the product of a rotated
// query and a rotated key depends only on the distance between them. Su 2021, arXiv 2104.09864. std::invalid_argument
// for an odd width or one beyond d, a base that is not positive, and positions of another shape or dtype.
Tensor rotary(const Tensor& x, const RotaryOptions& options = {});
// The same, from a base alone. (A template, so that rotary(x, {...}) means the options.)
template <class Number>
  requires std::is_arithmetic_v<Number>
Tensor rotary(const Tensor& x, Number base, int axis_of_places = -2) {
  return rotary(x, RotaryOptions{.base = double(base), .axis_of_places = axis_of_places});
}

}  // namespace surgeon
