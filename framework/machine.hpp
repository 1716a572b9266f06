// What this process runs on, and the one setting it has: how many threads the kernels may use.
#pragma once

#include <string>

namespace surgeon {

int threads() noexcept;          // starts as the number of processors this process may use
void set_threads(int n);         // n >= 1, or std::invalid_argument

// While one lives, kernels use n threads (n >= 1, or std::invalid_argument); then as many as before.
class ThreadsGuard {
 public:
  explicit ThreadsGuard(int n);
  ~ThreadsGuard();
  ThreadsGuard(const ThreadsGuard&) = delete;
  ThreadsGuard& operator=(const ThreadsGuard&) = delete;

 private:
  int before_;
};

std::string simd_level();        // "x86-64-v4", "x86-64-v3", "baseline"; the environment's SURGEON_SIMD can ask for a lower one
std::string blas_core();         // the kernel set OpenBLAS chose, "SkylakeX" or "Zen" say
std::string blas_version();      // "OpenBLAS 0.3.21"

}  // namespace surgeon
