// The one threading runtime: OpenMP. OpenBLAS is held at one thread, so that products inside a parallel loop do not
// start threads of their own.
#pragma once

#include <algorithm>
#include <cstdint>
#ifdef _OPENMP
#include <omp.h>
#endif

namespace surgeon::kernels {

int thread_count() noexcept;               // starts as the number of processors this process may use
void set_thread_count(int n) noexcept;     // n >= 1; in a child of fork() it stays 1

// body(begin, end) over [0, n), cut into pieces of at least `grain`; serial when there is only one piece, one thread,
// or we are inside a parallel loop already. body must not throw and must not touch tensors.
template <class Body>
void parallel_for(std::int64_t n, std::int64_t grain, const Body& body) {
  const std::int64_t pieces = std::min<std::int64_t>(thread_count(), n / std::max<std::int64_t>(grain, 1));
#ifdef _OPENMP
  if (pieces > 1 && !omp_in_parallel()) {
#pragma omp parallel for num_threads(int(pieces)) schedule(static, 1)
    for (std::int64_t piece = 0; piece < pieces; ++piece) body(n * piece / pieces, n * (piece + 1) / pieces);
    return;
  }
#else
  (void)pieces;
#endif
  if (n > 0) body(std::int64_t{0}, n);
}

}  // namespace surgeon::kernels
