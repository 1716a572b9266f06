// For the isa_*.cpp files only: loops over xsimd batches whose result never depends on an element's position, and the
// functions that xsimd rounds away. Everything is in an unnamed namespace: each instruction set needs its own copy.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
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

// What exp needs of each type. terms: (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2, highest power first, within 1e-8 and
// 2e-17; ln2_high times any exponent is exact.
template <class T> struct ExpNumbers;
template <> struct ExpNumbers<float> {
  using Bits = std::int32_t;
  static constexpr Bits one = 0x3f800000;
  static constexpr int mantissa = 23;
  static constexpr float lowest = -105, highest = 89, magic = 12582912, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr float terms[] = {0.0013926250831497611f, 0.008363232883682618f, 0.04166655421298415f,
                                    0.16666576666119928f, 0.5f};
};
template <> struct ExpNumbers<double> {
  using Bits = std::int64_t;
  static constexpr Bits one = 0x3ff0000000000000;
  static constexpr int mantissa = 52;
  static constexpr double lowest = -746, highest = 710, magic = 6755399441055744, ln2_high = 6.93147180369123816490e-01,
                          ln2_low = 1.90821492927058770002e-10;
  static constexpr double terms[] = {2.5100472505694996e-08, 2.7620201591031547e-07, 2.7557268276905696e-06,
                                     2.4801521057868204e-05, 0.00019841269863171557, 0.0013888888917367081,
                                     0.008333333333330039, 0.041666666666623824, 0.16666666666666669, 0.5};
};

// exp with gradual underflow, within 1.2 ulp (3 above exp(88.4), where AVX-512's scalef drops a bit): 2^n exp(r), n the
// nearest integer to x / ln 2. xsimd's gives 0 where the true result is a denormal, and a softmax weight of 1e-40 is not
// a dead one.
template <class T, class B>
B exp_gradual(const B& x) {
  if constexpr (Lanes<T>::count == 1) {
    return std::exp(x);
  } else {
    using N = ExpNumbers<T>;
    const B magic(N::magic);   // adding it rounds to an integer, held in the low bits
    const B bounded = xsimd::min(B(N::highest), xsimd::max(B(N::lowest), x));   // in this order nan stays nan
    const B n = xsimd::fma(bounded, B(T(1.4426950408889634)), magic) - magic;
    const B r = xsimd::fma(n, B(-N::ln2_low), xsimd::fma(n, B(-N::ln2_high), bounded));
    B p(N::terms[0]);
    for (std::size_t k = 1; k < std::size(N::terms); ++k) p = xsimd::fma(p, r, B(N::terms[k]));
    p = xsimd::fma(p * r, r, r) + B(T(1));
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) return B(_mm512_scalef_ps(p, n));
    else return B(_mm512_scalef_pd(p, n));
#else
    // 2^n in two factors, neither of which overflows or underflows.
    using Bits = xsimd::batch<typename N::Bits>;
    const B half = xsimd::fma(n, B(T(0.5)), magic), rest = (n - (half - magic)) + magic;
    const auto power = [](const B& v) {
      return xsimd::bitwise_cast<B>((xsimd::bitwise_cast<Bits>(v) << N::mantissa) + Bits(N::one));
    };
    return p * power(half) * power(rest);
#endif
  }
}

}  // namespace
}  // namespace surgeon::kernels
