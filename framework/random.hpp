// Rng: counter-based random numbers. The seed is an argument, never a global. A seed gives the same numbers on every
// machine, with any number of threads, in every version. Philox4x32-10: Salmon et al., "Parallel random numbers", 2011.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "framework/tensor.hpp"

namespace surgeon {

class Rng {
 public:
  // Streams of one seed never overlap: give each layer or worker its own.
  explicit Rng(std::uint64_t seed = 0, std::uint64_t stream = 0) noexcept : seed_(seed), stream_(stream) {}

  std::uint64_t next();                          // 64 random bits
  double uniform();                              // in [0, 1), 53 bits
  double normal();
  std::int64_t below(std::int64_t n);            // one of 0 .. n - 1, unbiased; std::invalid_argument for n < 1

  // Its whole state, for checkpoints: Rng(seed, stream) after `position` blocks of 128 bits.
  std::uint64_t seed() const noexcept { return seed_; }
  std::uint64_t stream() const noexcept { return stream_; }
  std::uint64_t position() const noexcept { return position_; }
  void seek(std::uint64_t position) noexcept { position_ = position; }
  std::uint64_t take(std::uint64_t blocks) noexcept { return std::exchange(position_, position_ + blocks); }

 private:
  std::uint64_t seed_, stream_, position_ = 0;
};

// Numbers from N(0, 1), and uniform ones in [0, 1). The float32 numbers are the float64 ones rounded; the uniform ones
// are rounded down.
Tensor randn(const Shape& shape, Rng& rng, Dtype dtype = Dtype::float32);
Tensor rand(const Shape& shape, Rng& rng, Dtype dtype = Dtype::float32);
Tensor randint(std::int64_t low, std::int64_t high, const Shape& shape, Rng& rng);   // int64 in [low, high)
std::vector<std::int64_t> permutation(std::int64_t n, Rng& rng);   // 0 .. n - 1 in random order

}  // namespace surgeon
