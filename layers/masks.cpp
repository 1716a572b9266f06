#include "layers/masks.hpp"

#include "framework/require.hpp"

namespace surgeon {

namespace {

template <class Sees>
Tensor mask(const char* name, std::int64_t T, Sees sees) {
  detail::require(T >= 0, name, ": T = ", T, " is negative");
  std::vector<unsigned char> allowed(static_cast<std::size_t>(count({T, T})));
  for (std::int64_t i = 0; i < T; ++i)
    for (std::int64_t j = 0; j < T; ++j) allowed[static_cast<std::size_t>(i * T + j)] = sees(i, j);
  return tensor(allowed, {T, T});
}

}  // namespace

Tensor causal_mask(std::int64_t T) {
  return mask("causal_mask", T, [](std::int64_t i, std::int64_t j) { return j <= i; });
}

Tensor reverse_mask(std::int64_t T) {
  return mask("reverse_mask", T, [](std::int64_t i, std::int64_t j) { return j >= i; });
}

Tensor no_mask(std::int64_t T) {
  return mask("no_mask", T, [](std::int64_t, std::int64_t) { return true; });
}

}  // namespace surgeon
