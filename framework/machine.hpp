// What this process runs on, and its one setting: how many threads the kernels may use. The same numbers, bit for bit,
// come from the same number of threads, instruction set and BLAS core; inside an OpenMP loop of one's own, kernels run
// on one thread, with the bits of one thread.
#pragma once

#include <string>
#include <vector>

namespace surgeon {

int threads() noexcept;          // at first, the number of processors that this process may use
int most_threads() noexcept;     // that the BLAS was built for: 64 in Debian 12
void set_threads(int n);         // std::invalid_argument unless 1 <= n <= most_threads()

// While one lives, kernels use n threads; afterwards, as many as before. Throws as set_threads does.
class ThreadsGuard {
 public:
  explicit ThreadsGuard(int n);
  ~ThreadsGuard();
  ThreadsGuard(const ThreadsGuard&) = delete;
  ThreadsGuard& operator=(const ThreadsGuard&) = delete;

 private:
  int before_;
};

// Tries whether threads() threads can start, and takes their buffers for matrix products now instead of in the middle
// of the work, where OpenBLAS would wait for memory for ever: std::runtime_error, std::bad_alloc.
void require_resources();

std::string simd_level();        // "x86-64-v4", "x86-64-v3" or "baseline"; SURGEON_SIMD in the environment can lower it
std::vector<std::string> simd_levels();   // what SURGEON_SIMD may say
std::string blas_core();         // the kernels that OpenBLAS chose: "SkylakeX", "Zen"
std::string blas_version();      // "OpenBLAS 0.3.21"

}  // namespace surgeon
