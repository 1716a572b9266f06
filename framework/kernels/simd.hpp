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
#else
template <class T> struct Lanes {
  using type = xsimd::batch<T>;
  static constexpr std::int64_t count = std::int64_t(xsimd::batch<T>::size);
};
template <class T> xsimd::batch<T> load(const T* x) { return xsimd::batch<T>::load_unaligned(x); }
#endif
template <class T> using Batch = typename Lanes<T>::type;

// An object, because a call of a function with a batch also finds xsimd's function of that name: xsimd has a store of
// its own, and each version brings more names. A function that takes a batch is named unlike any of them.
constexpr auto store = []<class T>(T* y, const Batch<T>& v) {
  if constexpr (Lanes<T>::count == 1) *y = v;
  else v.store_unaligned(y);
};

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
  static constexpr float lowest = -105, highest = 89, magic = 12582912, ln2_high = 0.693359375f,
                         ln2_low = -2.12194440e-4f;
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

// Four batches that go through the same steps side by side: the steps of one wait for each other, so that one batch
// alone keeps the processor a third busy. A function written for a batch takes them too.
template <class T>
struct Four {
  Batch<T> v[4];
  Four() = default;
  explicit Four(T x) : v{Batch<T>(x), Batch<T>(x), Batch<T>(x), Batch<T>(x)} {}
  template <class F, class... Args> [[gnu::always_inline]] static Four of(const F& f, const Args&... args) {
    Four y;
    for (int k = 0; k < 4; ++k) y.v[k] = f(args.v[k]...);
    return y;
  }
  friend Four operator+(const Four& a, const Four& b) { return of([](auto& a, auto& b) { return a + b; }, a, b); }
  friend Four operator-(const Four& a, const Four& b) { return of([](auto& a, auto& b) { return a - b; }, a, b); }
  friend Four operator*(const Four& a, const Four& b) { return of([](auto& a, auto& b) { return a * b; }, a, b); }
  friend Four operator/(const Four& a, const Four& b) { return of([](auto& a, auto& b) { return a / b; }, a, b); }
  friend Four operator-(const Four& a) { return of([](auto& a) { return -a; }, a); }
};

// f of a batch, or of each of four.
template <class F, class B, class... Rest>
[[gnu::always_inline]] inline B by_batch(const F& f, const B& x, const Rest&... rest) {
  if constexpr (requires { x.v; }) return B::of(f, x, rest...);
  else return f(x, rest...);
}
#ifndef XSIMD_NO_SUPPORTED_ARCHITECTURE
// The same bits as numbers of another type; from xsimd 10 on its function takes the type of an element.
template <class To, class B>
xsimd::batch<To> same_bits(const B& x) {
#if XSIMD_VERSION_MAJOR >= 10
  return xsimd::bitwise_cast<To>(x);
#else
  return xsimd::bitwise_cast<xsimd::batch<To>>(x);
#endif
}
#endif

template <class B> B multiply_add(const B& a, const B& b, const B& c) {   // a b + c
  return by_batch([](auto& a, auto& b, auto& c) { return xsimd::fma(a, b, c); }, a, b, c);
}

// p 2^n for one batch; where scalef is missing, by two factors, neither of which overflows or underflows.
template <class T, class B>
B times_power(const B& p, const B& n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return B(_mm512_scalef_ps(p, n));
  else return B(_mm512_scalef_pd(p, n));
#else
  using N = ExpNumbers<T>;
  using Bits = typename N::Bits;
  const B magic(N::magic), half = xsimd::fma(n, B(T(0.5)), magic), rest = (n - (half - magic)) + magic;
  const auto power = [](const B& v) {
    return kernels::same_bits<T>((kernels::same_bits<Bits>(v) << N::mantissa) + xsimd::batch<Bits>(N::one));
  };
  return p * power(half) * power(rest);
#endif
}

// exp with gradual underflow, within 1.2 ulp (3 above exp(88.4), where AVX-512's scalef drops a bit): 2^n exp(r), n the
// nearest integer to x / ln 2. xsimd's gives 0 where the true result is a denormal, and a softmax weight of 1e-40 is
// not a dead one. Always inlined, or its constants are loaded anew for each batch.
template <class T, class B>
[[gnu::always_inline]] inline B exp_gradual(const B& x) {
  if constexpr (Lanes<T>::count == 1) {
    return std::exp(x);
  } else {
    using N = ExpNumbers<T>;
    const B magic(N::magic);   // adding it rounds to an integer, held in the low bits
    const B bounded = by_batch([](auto& x) {   // in this order nan stays nan
      return xsimd::min(Batch<T>(N::highest), xsimd::max(Batch<T>(N::lowest), x));
    }, x);
    const B n = multiply_add(bounded, B(T(1.4426950408889634)), magic) - magic;
    const B r = multiply_add(n, B(-N::ln2_low), multiply_add(n, B(-N::ln2_high), bounded));
    B p(N::terms[0]);
    for (std::size_t k = 1; k < std::size(N::terms); ++k) p = multiply_add(p, r, B(N::terms[k]));
    p = multiply_add(p * r, r, r) + B(T(1));
    return by_batch([](auto& p, auto& n) { return times_power<T>(p, n); }, p, n);
  }
}

}  // namespace
}  // namespace surgeon::kernels
