// Runs of random numbers, by blocks of Philox4x32-10. The same bits on every instruction set and for every cut of the
// work: block number `position` depends on nothing but the seed, the stream and that number.
#pragma once

#include <cstdint>

#include "framework/kernels/dispatch.hpp"

namespace surgeon::kernels {

// Where a run starts: key = seed, counter = {position, stream}, low words first.
struct Stream {
  std::uint64_t seed, stream, position;
};

// Each writes n results, four or two to a block; the last block may be used in part.
struct Random {
  void (*bits)(Stream from, std::int64_t n, std::uint32_t* y);             // 4 words to a block
  void (*uniform_float)(Stream from, std::int64_t n, float* y);            // 2 to a block: the double, rounded down
  void (*uniform_double)(Stream from, std::int64_t n, double* y);          // 2 to a block: 53 bits in [0, 1)
  void (*normal_float)(Stream from, std::int64_t n, float* y);             // 4 to a block: the double, rounded
  void (*normal_double)(Stream from, std::int64_t n, double* y);           // 4 to a block: Box & Muller 1958
};

const Random& random() noexcept;

namespace baseline { extern const Random random; }
namespace v3 { extern const Random random; }
namespace v4 { extern const Random random; }

}  // namespace surgeon::kernels
