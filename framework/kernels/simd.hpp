// For the isa_*.cpp files only: loops over xsimd batches whose result never depends on an element's position, and the
// functions that xsimd rounds away. Everything is in an unnamed namespace: each instruction set needs its own copy.
#pragma once

#include <cstdint>
#include <xsimd/xsimd.hpp>

namespace surgeon::kernels {
namespace {

#ifdef XSIMD_NO_SUPPORTED_ARCHITECTURE
template <class T> struct Lanes { using type = T; static constexpr std::int64_t count = 1; };
template <class T> T load(const T* x) { return *x; }
template <class T> void store(T* y, T v) { *y = v; }
#else
template <class T> struct Lanes {
  using type = xsimd::batch<T>;
  static constexpr std::int64_t count = std::int64_t(xsimd::batch<T>::size);
};
template <class T> xsimd::batch<T> load(const T* x) { return xsimd::batch<T>::load_unaligned(x); }
template <class T> void store(T* y, const xsimd::batch<T>& v) { v.store_unaligned(y); }
#endif
template <class T> using Batch = typename Lanes<T>::type;

// y[i] = f(x[i]); the tail is padded to a whole batch, so that each element sees the same instructions.
template <class T, class F>
void map(const T* x, T* y, std::int64_t n, const F& f) {
  constexpr std::int64_t lanes = Lanes<T>::count;
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) store(y + i, f(load(x + i)));
  if (i == n) return;
  T padded[lanes] = {};
  for (std::int64_t k = 0; k < n - i; ++k) padded[k] = x[i + k];
  store(padded, f(load(padded)));
  for (std::int64_t k = 0; k < n - i; ++k) y[i + k] = padded[k];
}

// exp with gradual underflow: xsimd's gives 0 where the true result is a denormal, and a softmax weight of 1e-40 is
// not a dead one.
template <class T, class B>
B exp_gradual(const B& x) {
  constexpr T edge = sizeof(T) == 4 ? T(-87) : T(-708), shift = 64;
  constexpr T scale = T(1.603810890548638e-28);   // exp(-64)
  const B y = xsimd::exp(x);
  const auto small = x < B(edge);
  if (!xsimd::any(small)) return y;
  return xsimd::select(small, xsimd::exp(x + B(shift)) * B(scale), y);
}

}  // namespace
}  // namespace surgeon::kernels
