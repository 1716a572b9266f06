// The thread count of this process.
#include "framework/kernels/threads.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>

#include "framework/kernels/gemm.hpp"

namespace surgeon::kernels {
namespace {

int processors() noexcept {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? std::min(CPU_COUNT(&set), most_blas_threads()) : 1;
}

std::atomic<int>& count() noexcept {
  static std::atomic<int> count{processors()};
  return count;
}

}  // namespace

// A child of fork() has one thread: OpenMP would wait for the others for ever.
int thread_count() noexcept {
  static std::atomic<bool> forked{false};
  static const int registered = ::pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); });
  (void)registered;
  return forked.load(std::memory_order_relaxed) ? 1 : count().load(std::memory_order_relaxed);
}
void set_thread_count(int n) noexcept { count().store(n, std::memory_order_relaxed); }

}  // namespace surgeon::kernels
