// The thread count of this process.
#include "framework/kernels/threads.hpp"

#include <sched.h>

#include <atomic>

namespace surgeon::kernels {
namespace {

int processors() noexcept {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

std::atomic<int>& count() noexcept {
  static std::atomic<int> count{processors()};
  return count;
}

}  // namespace

int thread_count() noexcept { return count().load(std::memory_order_relaxed); }
void set_thread_count(int n) noexcept { count().store(n, std::memory_order_relaxed); }

}  // namespace surgeon::kernels
