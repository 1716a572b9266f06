// Threads and instruction sets of this process.
#include "framework/machine.hpp"

#include <sched.h>

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include "framework/kernels/dispatch.hpp"

namespace surgeon {
namespace {

int processors() noexcept {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

std::atomic<int>& thread_count() noexcept {
  static std::atomic<int> count{processors()};
  return count;
}

}  // namespace

int threads() noexcept { return thread_count().load(std::memory_order_relaxed); }

void set_threads(int n) {
  if (n < 1) throw std::invalid_argument("set_threads: " + std::to_string(n) + " threads");
  thread_count().store(n, std::memory_order_relaxed);
}

namespace kernels {
namespace {

Isa best_isa() noexcept {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  const char* asked = std::getenv("SURGEON_SIMD");
  const std::string_view level = asked ? asked : "x86-64-v4";
  if (v4 && level == "x86-64-v4") return Isa::v4;
  if (v3 && level != "baseline") return Isa::v3;
#endif
  return Isa::baseline;
}

}  // namespace

Isa isa() noexcept {
  static const Isa chosen = best_isa();
  return chosen;
}

}  // namespace kernels

std::string simd_level() {
  constexpr const char* names[] = {"baseline", "x86-64-v3", "x86-64-v4"};
  return names[int(kernels::isa())];
}

}  // namespace surgeon
