// Which instruction set this process uses.
#include "framework/kernels/dispatch.hpp"

#include <cstdlib>
#include <string_view>

namespace surgeon::kernels {
namespace {

Isa best_isa() noexcept {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  const char* asked = std::getenv("SURGEON_SIMD");
  const std::string_view level = asked && *asked ? asked : "x86-64-v4";
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

}  // namespace surgeon::kernels
