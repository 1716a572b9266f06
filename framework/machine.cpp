// What the kernels know of the machine, said to users.
#include "framework/machine.hpp"

#include <stdexcept>

#include "framework/kernels/dispatch.hpp"
#include "framework/kernels/gemm.hpp"
#include "framework/kernels/threads.hpp"

namespace surgeon {

int threads() noexcept { return kernels::thread_count(); }

void set_threads(int n) {
  if (n < 1) throw std::invalid_argument("set_threads: n must be at least 1, not " + std::to_string(n));
  kernels::set_thread_count(n);
}

ThreadsGuard::ThreadsGuard(int n) : before_(threads()) { set_threads(n); }
ThreadsGuard::~ThreadsGuard() { kernels::set_thread_count(before_); }

std::string simd_level() {
  constexpr const char* names[] = {"baseline", "x86-64-v3", "x86-64-v4"};
  return names[int(kernels::isa())];
}

std::string blas_core() { return kernels::blas_core(); }
std::string blas_version() { return kernels::blas_version(); }

}  // namespace surgeon
