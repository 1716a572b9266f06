// What this process runs on, and its one setting: how many threads the kernels may use.
#pragma once

#include <string>

namespace surgeon {

int threads() noexcept;          // at first, the number of processors that this process may use
void set_threads(int n);         // std::invalid_argument unless n >= 1

// While one lives, kernels use n threads; afterwards, as many as before. std::invalid_argument unless n >= 1.
class ThreadsGuard {
 public:
  explicit ThreadsGuard(int n);
  ~ThreadsGuard();
  ThreadsGuard(const ThreadsGuard&) = delete;
  ThreadsGuard& operator=(const ThreadsGuard&) = delete;

 private:
  int before_;
};

std::string simd_level();        // "x86-64-v4", "x86-64-v3" or "baseline"; SURGEON_SIMD in the environment can lower it
std::string blas_core();         // the kernels that OpenBLAS chose: "SkylakeX", "Zen"
std::string blas_version();      // "OpenBLAS 0.3.21"

}  // namespace surgeon
