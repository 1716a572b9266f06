// Rng's numbers and the tensors made of them. The numbers themselves come from kernels/isa_random.cpp.
#include "framework/random.hpp"

#include <algorithm>
#include <numeric>

#include "framework/detail/node.hpp"
#include "framework/errors.hpp"
#include "framework/kernels/random.hpp"
#include "framework/kernels/threads.hpp"

namespace surgeon {

namespace {

constexpr std::int64_t grain = 4096;   // blocks: a thread costs about as much to start as these take

kernels::Stream next_blocks(Rng& rng, std::int64_t blocks) {
  return {rng.seed(), rng.stream(), rng.take(std::uint64_t(blocks))};
}

template <class T>
using Kernel = void (*)(kernels::Stream from, std::int64_t n, T* y);

// n results, per_block to a block, cut over threads between blocks.
template <class T>
void fill(T* y, std::int64_t n, std::int64_t per_block, Rng& rng, Kernel<T> kernel) {
  const std::int64_t blocks = (n + per_block - 1) / per_block;
  const kernels::Stream from = next_blocks(rng, blocks);
  kernels::parallel_for(blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    const kernels::Stream here = {from.seed, from.stream, from.position + std::uint64_t(begin)};
    kernel(here, std::min(end * per_block, n) - begin * per_block, y + begin * per_block);
  });
}

Tensor drawn(const char* name, const Shape& shape, Rng& rng, Dtype dtype, std::int64_t per_block,
             Kernel<float> in_float, Kernel<double> in_double) {
  require(is_floating(dtype), name, ": dtype must be float32 or float64, not ", dtype);
  Tensor y = detail::make(shape, dtype);
  if (dtype == Dtype::float32) fill(detail::fresh<float>(y), y.size(), per_block, rng, in_float);
  else fill(detail::fresh<double>(y), y.size(), per_block, rng, in_double);
  return y;
}

template <class T>
T one(Rng& rng, Kernel<T> kernel) {
  T y;
  kernel(next_blocks(rng, 1), 1, &y);
  return y;
}

// What rng.next() would give, many blocks at a time; in the end only those that were used are taken.
class Draws {
 public:
  explicit Draws(Rng& rng) : rng_(rng) {}
  ~Draws() { rng_.seek(rng_.position() - std::uint64_t(blocks - used_)); }
  Draws(const Draws&) = delete;
  Draws& operator=(const Draws&) = delete;

  std::uint64_t next() {
    if (used_ == blocks) {
      kernels::random().bits(next_blocks(rng_, blocks), 4 * blocks, words_);
      used_ = 0;
    }
    const std::uint32_t* block = words_ + 4 * used_++;
    return block[0] | std::uint64_t{block[1]} << 32;
  }

 private:
  static constexpr std::int64_t blocks = 64;
  Rng& rng_;
  std::int64_t used_ = blocks;
  std::uint32_t words_[4 * blocks];
};

// Unbiased: the incomplete last round of [0, 2^64) is thrown back.
template <class Source>
std::uint64_t below_unsigned(std::uint64_t n, Source& source) {
  const std::uint64_t incomplete = -n % n;
  for (;;)
    if (const std::uint64_t x = source.next(); x >= incomplete) return x % n;
}

}  // namespace

std::uint64_t Rng::next() {
  std::uint32_t words[2];
  kernels::random().bits(next_blocks(*this, 1), 2, words);
  return words[0] | std::uint64_t{words[1]} << 32;
}

double Rng::uniform() { return one(*this, kernels::random().uniform_double); }
double Rng::normal() { return one(*this, kernels::random().normal_double); }

std::int64_t Rng::below(std::int64_t n) {
  require(n >= 1, "Rng::below: n must be at least 1, not ", n);
  return std::int64_t(below_unsigned(std::uint64_t(n), *this));
}

Tensor randn(const Shape& shape, Rng& rng, Dtype dtype) {
  return drawn("randn", shape, rng, dtype, 4, kernels::random().normal_float, kernels::random().normal_double);
}

Tensor rand(const Shape& shape, Rng& rng, Dtype dtype) {
  return drawn("rand", shape, rng, dtype, 2, kernels::random().uniform_float, kernels::random().uniform_double);
}

Tensor randint(std::int64_t low, std::int64_t high, const Shape& shape, Rng& rng) {
  require(low < high, "randint: low is ", low, " and high is ", high, "; low must be below high");
  Tensor y = detail::make(shape, Dtype::int64);
  const std::uint64_t range = std::uint64_t(high) - std::uint64_t(low);
  Draws draws(rng);
  std::generate_n(detail::fresh<std::int64_t>(y), y.size(),
                  [&] { return std::int64_t(std::uint64_t(low) + below_unsigned(range, draws)); });
  return y;
}

// Fisher-Yates.
std::vector<std::int64_t> permutation(std::int64_t n, Rng& rng) {
  require(n >= 0, "permutation: n must not be negative, but is ", n);
  std::vector<std::int64_t> order(std::size_t(n), 0);
  std::iota(order.begin(), order.end(), std::int64_t{0});
  Draws draws(rng);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[below_unsigned(i, draws)]);
  return order;
}

}  // namespace surgeon
