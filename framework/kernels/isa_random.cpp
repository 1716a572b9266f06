// Philox4x32-10 (Salmon et al. 2011), and uniform and normal numbers from its blocks, as many blocks at a time as a
// register holds; built once per instruction set. Only + - * / sqrt and integer operations, and no fused multiply-add
// (CMakeLists.txt turns contraction off for this file): so every instruction set gives the same bits.
#include <cstddef>
#include <cstdint>
#include <utility>
#if defined(__SSE2__)
#include <immintrin.h>
#else
#include <cmath>
#endif

#include "framework/kernels/random.hpp"

namespace surgeon::kernels {
namespace {

#if defined(__AVX512F__)
constexpr std::int64_t lanes = 8;
#elif defined(__AVX2__)
constexpr std::int64_t lanes = 4;
#else
constexpr std::int64_t lanes = 2;
#endif
typedef std::uint64_t Bits __attribute__((vector_size(8 * lanes)));
typedef double Real __attribute__((vector_size(8 * lanes)));
typedef float Half __attribute__((vector_size(4 * lanes)));

// The low 32 bits of each lane multiplied: 64 bits.
Bits product(Bits a, std::uint64_t b) {
  const Bits factor = Bits{} + b;
#if defined(__AVX512F__)
  return Bits(_mm512_mul_epu32(__m512i(a), __m512i(factor)));
#elif defined(__AVX2__)
  return Bits(_mm256_mul_epu32(__m256i(a), __m256i(factor)));
#elif defined(__SSE2__)
  return Bits(_mm_mul_epu32(__m128i(a), __m128i(factor)));
#else
  return (a & 0xffffffff) * factor;
#endif
}

Real root(Real x) {
#if defined(__AVX512F__)
  return Real(_mm512_sqrt_pd(__m512d(x)));
#elif defined(__AVX2__)
  return Real(_mm256_sqrt_pd(__m256d(x)));
#elif defined(__SSE2__)
  return Real(_mm_sqrt_pd(__m128d(x)));
#else
  for (std::int64_t i = 0; i < lanes; ++i) x[i] = std::sqrt(x[i]);
  return x;
#endif
}

template <std::size_t... I> Bits count_up(std::index_sequence<I...>) { return Bits{I...}; }

// Lane k of the four words is block position + k. Only the low half of each lane counts until the end: the product
// ignores the rest.
struct Words { Bits w[4]; };
[[gnu::always_inline]] inline Words philox(const Stream& from) {
  Bits c0 = count_up(std::make_index_sequence<std::size_t(lanes)>()) + from.position, c2 = Bits{} + from.stream;
  Bits c1 = c0 >> 32, c3 = c2 >> 32;
  std::uint32_t k0 = std::uint32_t(from.seed), k1 = std::uint32_t(from.seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += 0x9e3779b9, k1 += 0xbb67ae85) {
    const Bits p0 = product(c0, 0xd2511f53), p1 = product(c2, 0xcd9e8d57);
    c0 = (p1 >> 32) ^ c1 ^ std::uint64_t(k0);
    c2 = (p0 >> 32) ^ c3 ^ std::uint64_t(k1);
    c1 = p1;
    c3 = p0;
  }
  return {{c0 & 0xffffffff, c1 & 0xffffffff, c2 & 0xffffffff, c3 & 0xffffffff}};
}

constexpr double two52 = 4503599627370496.0;
// An integer below 2^52 as a double: its bits are the mantissa of 2^52 + x.
Real exact(Bits x) { return Real(x | 0x4330000000000000) - two52; }

// sqrt(-2 ln u) for u = (w + 1/2) / 2^32, in (0, 1). With v = 2 w + 1 = 2^k z, z in [sqrt(1/2), sqrt(2)):
// ln u = (k - 33) ln 2 + 2 atanh(s), s = (z - 1) / (z + 1). The polynomial is within 7e-16 of 2 atanh(s) / s.
Real radius(Bits w) {
  const Bits v = Bits(exact((w << 1) | 1)), from_root_half = v - 0x3fe6a09e00000000;
  const Bits k = from_root_half >> 52;
  const Real z = Real(v - (k << 52));
  const Real s = (z - 1.0) / (z + 1.0), t = s * s;
  const Real p = 0.6666666666666208 + t * (0.40000000011206505 + t * (0.2857142413832416 + t * (0.22222862280108818 +
                 t * (0.18140193802862467 + t * 0.1662181715290249))));
  const Real ln_u = (exact(k) - 33.0) * 0.6931471805599453 + s * (2.0 + t * p);
  return root(ln_u * -2.0);
}

Real choose(Bits mask, Real a, Real b) { return Real((Bits(a) & mask) | (Bits(b) & ~mask)); }

// sin and cos of 2 pi w / 2^32: the nearest quarter turn q, and an angle in [-pi/4, pi/4) from there.
struct Turn { Real sin, cos; };
Turn turn(Bits w) {
  const Bits shifted = w + (std::uint64_t{1} << 29), q = shifted >> 30;
  const Real x = (exact(shifted & 0x3fffffff) - 536870912.0) * 1.4629180792671596e-09;   // 2 pi / 2^32
  const Real t = x * x;
  const Real s = x * (1.0 + t * (-0.16666666666666666 + t * (0.008333333333330948 + t * (-0.00019841269836758574 +
                 t * (2.755731610255244e-06 + t * (-2.505113184500362e-08 + t * 1.591812929486638e-10))))));
  const Real c = 1.0 - 0.5 * t + t * t * (0.04166666666666468 + t * (-0.0013888888887277342 +
                 t * (2.4801585210990515e-05 + t * (-2.7556369695573e-07 + t * 2.070060048343283e-09))));
  const Bits odd = Bits{} - (q & 1);
  const Bits sin_sign = (q & 2) << 62, cos_sign = ((q + 1) & 2) << 62;
  return {Real(Bits(choose(odd, c, s)) ^ sin_sign), Real(Bits(choose(odd, s, c)) ^ cos_sign)};
}

// a and b dealt alternately, `unit` lanes at a time, starting from lane `start` of each.
template <std::int64_t unit, std::int64_t start, std::size_t... I>
Real deal(Real a, Real b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, ((std::int64_t(I) / unit % 2) * lanes + start + std::int64_t(I) / (2 * unit) * unit +
                                        std::int64_t(I) % unit)...);
}
template <std::int64_t unit, std::int64_t start> Real deal(Real a, Real b) {
  return deal<unit, start>(a, b, std::make_index_sequence<std::size_t(lanes)>());
}

void put(Real x, double* y) { __builtin_memcpy(y, &x, sizeof x); }
void put(Real x, float* y) {
  const Half rounded = __builtin_convertvector(x, Half);
  __builtin_memcpy(y, &rounded, sizeof rounded);
}

// The results of `lanes` blocks, block by block.
template <class T> void put_blocks(Real a, Real b, T* y) {
  constexpr std::int64_t half = lanes / 2;
  put(deal<1, 0>(a, b), y);
  put(deal<1, half>(a, b), y + lanes);
}
template <class T> void put_blocks(Real a, Real b, Real c, Real d, T* y) {
  constexpr std::int64_t half = lanes / 2;
  Real ab0 = deal<1, 0>(a, b), ab1 = deal<1, half>(a, b), cd0 = deal<1, 0>(c, d), cd1 = deal<1, half>(c, d);
  if constexpr (lanes > 2) {   // with two, a pair is a register already
    const Real low0 = ab0, low1 = ab1;
    ab0 = deal<2, 0>(low0, cd0);
    cd0 = deal<2, half>(low0, cd0);
    ab1 = deal<2, 0>(low1, cd1);
    cd1 = deal<2, half>(low1, cd1);
  }
  put(ab0, y);
  put(cd0, y + lanes);
  put(ab1, y + 2 * lanes);
  put(cd1, y + 3 * lanes);
}

struct AsBits {
  static constexpr std::int64_t per_block = 4;
  static void put(const Words& words, std::uint32_t* y) {
    for (std::int64_t k = 0; k < lanes; ++k)
      for (int i = 0; i < 4; ++i) y[4 * k + i] = std::uint32_t(words.w[i][k]);
  }
};

struct Uniform {
  static constexpr std::int64_t per_block = 2;
  static Real of(Bits low, Bits high) {   // the upper 53 of 64 bits
    return (exact(high) * 2097152.0 + exact(low >> 11)) * 1.1102230246251565e-16;
  }
  static void put(const Words& words, double* y) {
    put_blocks(of(words.w[0], words.w[1]), of(words.w[2], words.w[3]), y);
  }
  static Real down(Real x) { return Real(Bits(x) & ~std::uint64_t{0x1fffffff}); }   // to 24 significant bits
  static void put(const Words& words, float* y) {
    put_blocks(down(of(words.w[0], words.w[1])), down(of(words.w[2], words.w[3])), y);
  }
};

struct Normal {
  static constexpr std::int64_t per_block = 4;
  template <class T> static void put(const Words& words, T* y) {
    const Real r0 = radius(words.w[0]), r1 = radius(words.w[2]);
    const Turn t0 = turn(words.w[1]), t1 = turn(words.w[3]);
    put_blocks(r0 * t0.cos, r0 * t0.sin, r1 * t1.cos, r1 * t1.sin, y);
  }
};

template <class Kind, class T>
void run(Stream from, std::int64_t n, T* y) {
  constexpr std::int64_t at_once = lanes * Kind::per_block;
  for (; n >= at_once; n -= at_once, y += at_once, from.position += lanes) Kind::put(philox(from), y);
  if (n == 0) return;
  T rest[at_once];
  Kind::put(philox(from), rest);
  for (std::int64_t i = 0; i < n; ++i) y[i] = rest[i];
}

}  // namespace

namespace SURGEON_ISA {
const Random random = {run<AsBits, std::uint32_t>, run<Uniform, float>, run<Uniform, double>, run<Normal, float>,
                       run<Normal, double>};
}

}  // namespace surgeon::kernels
