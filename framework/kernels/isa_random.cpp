// Philox4x32-10 (Salmon et al. 2011), and uniform and normal numbers from its blocks, as many blocks at a time as a
// register holds; built once per instruction set. Only + - * / sqrt and integer operations, and no fused multiply-add
// (CMakeLists.txt turns contraction off for this file): so every instruction set gives the same bits.
#include <cstddef>
#include <cstdint>
#include <type_traits>
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
constexpr std::int64_t lanes = 8, most_groups = 4;
#elif defined(__AVX2__)
constexpr std::int64_t lanes = 4, most_groups = 2;
#else
constexpr std::int64_t lanes = 2, most_groups = 2;
#endif
typedef std::uint64_t Bits __attribute__((vector_size(8 * lanes)));
typedef std::uint32_t Words __attribute__((vector_size(8 * lanes)));
typedef double Real __attribute__((vector_size(8 * lanes)));
typedef float Half __attribute__((vector_size(4 * lanes)));

// N registers that go through the same steps side by side: the steps wait for each other, the registers do not.
template <class V, std::int64_t N>
struct Pack {
  V v[N];
  Pack() = default;
  Pack(std::conditional_t<std::is_same_v<V, Real>, double, std::uint64_t> x) {
    for (V& each : v) each = V{} + x;
  }
  template <class F> [[gnu::always_inline]] static Pack of(const F& f) {   // f(i) for each register
    Pack y;
    for (std::int64_t i = 0; i < N; ++i) y.v[i] = f(i);
    return y;
  }
  friend Pack operator+(const Pack& a, const Pack& b) { return of([&](std::int64_t i) { return a.v[i] + b.v[i]; }); }
  friend Pack operator-(const Pack& a, const Pack& b) { return of([&](std::int64_t i) { return a.v[i] - b.v[i]; }); }
  friend Pack operator*(const Pack& a, const Pack& b) { return of([&](std::int64_t i) { return a.v[i] * b.v[i]; }); }
  friend Pack operator/(const Pack& a, const Pack& b) { return of([&](std::int64_t i) { return a.v[i] / b.v[i]; }); }
  friend Pack operator&(const Pack& a, const Pack& b) { return of([&](std::int64_t i) { return a.v[i] & b.v[i]; }); }
  friend Pack operator|(const Pack& a, const Pack& b) { return of([&](std::int64_t i) { return a.v[i] | b.v[i]; }); }
  friend Pack operator^(const Pack& a, const Pack& b) { return of([&](std::int64_t i) { return a.v[i] ^ b.v[i]; }); }
  friend Pack operator<<(const Pack& a, int n) { return of([&](std::int64_t i) { return a.v[i] << n; }); }
  friend Pack operator>>(const Pack& a, int n) { return of([&](std::int64_t i) { return a.v[i] >> n; }); }
};
template <class To, class From, std::int64_t N>
Pack<To, N> as(const Pack<From, N>& x) {   // the same bits
  return Pack<To, N>::of([&](std::int64_t i) { return To(x.v[i]); });
}

// The low 32 bits of each lane multiplied: 64 bits.
template <std::int64_t N>
Pack<Bits, N> product(const Pack<Bits, N>& a, std::uint64_t b) {
  return Pack<Bits, N>::of([&](std::int64_t i) {
    const Bits factor = Bits{} + b;
#if defined(__AVX512F__)
    return Bits(_mm512_mul_epu32(__m512i(a.v[i]), __m512i(factor)));
#elif defined(__AVX2__)
    return Bits(_mm256_mul_epu32(__m256i(a.v[i]), __m256i(factor)));
#elif defined(__SSE2__)
    return Bits(_mm_mul_epu32(__m128i(a.v[i]), __m128i(factor)));
#else
    return (a.v[i] & 0xffffffff) * factor;
#endif
  });
}

template <std::int64_t N>
Pack<Real, N> root(const Pack<Real, N>& x) {
  return Pack<Real, N>::of([&](std::int64_t i) {
#if defined(__AVX512F__)
    return Real(_mm512_sqrt_pd(__m512d(x.v[i])));
#elif defined(__AVX2__)
    return Real(_mm256_sqrt_pd(__m256d(x.v[i])));
#elif defined(__SSE2__)
    return Real(_mm_sqrt_pd(__m128d(x.v[i])));
#else
    Real y = x.v[i];
    for (std::int64_t k = 0; k < lanes; ++k) y[k] = std::sqrt(y[k]);
    return y;
#endif
  });
}

// The high half of each lane in place of the low one; above it is anything.
template <std::size_t... I> Bits high_down(Bits x, std::index_sequence<I...>) {
  return Bits(__builtin_shufflevector(Words(x), Words(x), (I | 1)...));
}
template <std::int64_t N>
Pack<Bits, N> high_down(const Pack<Bits, N>& x) {
  return Pack<Bits, N>::of([&](std::int64_t i) {
    return high_down(x.v[i], std::make_index_sequence<std::size_t(2 * lanes)>());
  });
}

template <std::size_t... I> Bits count_up(std::index_sequence<I...>) { return Bits{I...}; }

// The four words of blocks position, position + 1, ... Only the low half of each lane counts until the end: the product
// ignores the rest.
template <std::int64_t groups> struct Blocks { Pack<Bits, groups> w[4]; };
template <std::int64_t groups>
[[gnu::always_inline]] inline Blocks<groups> philox(const Stream& from) {
  using Group = Pack<Bits, groups>;
  Group c0 = Group::of([&](std::int64_t i) {
    return count_up(std::make_index_sequence<std::size_t(lanes)>()) + (from.position + std::uint64_t(i * lanes));
  });
  Group c1 = c0 >> 32, c2 = from.stream, c3 = from.stream >> 32;
  std::uint32_t k0 = std::uint32_t(from.seed), k1 = std::uint32_t(from.seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += 0x9e3779b9, k1 += 0xbb67ae85) {
    const Group p0 = product(c0, 0xd2511f53), p1 = product(c2, 0xcd9e8d57);
    c0 = high_down(p1) ^ c1 ^ std::uint64_t(k0);
    c2 = high_down(p0) ^ c3 ^ std::uint64_t(k1);
    c1 = p1;
    c3 = p0;
  }
  const Group low = std::uint64_t{0xffffffff};
  return {{c0 & low, c1 & low, c2 & low, c3 & low}};
}

// An integer below 2^52 as a double: its bits are the mantissa of 2^52 + x.
constexpr double two52 = 4503599627370496.0;
constexpr std::uint64_t bits_of_two52 = 0x4330000000000000;
template <std::int64_t N> Pack<Real, N> exact(const Pack<Bits, N>& x) { return as<Real>(x | bits_of_two52) - two52; }

// sqrt(-2 ln u) for u = (w + 1/2) / 2^32, in (0, 1). With v = 2 w + 1 = 2^k z, z in [sqrt(1/2), sqrt(2)):
// ln u = (k - 33) ln 2 + 2 atanh(s), s = (z - 1) / (z + 1). The polynomial is within 7e-16 of 2 atanh(s) / s.
template <std::int64_t N>
[[gnu::always_inline]] inline Pack<Real, N> radius(const Pack<Bits, N>& w) {
  const auto v = as<Bits>(exact((w << 1) | 1)), k = (v - 0x3fe6a09e00000000) >> 52;
  const auto z = as<Real>(v - (k << 52)), s = (z - 1.0) / (z + 1.0), t = s * s;
  const auto p = 0.6666666666666208 + t * (0.40000000011206505 + t * (0.2857142413832416 + t * (0.22222862280108818 +
                 t * (0.18140193802862467 + t * 0.1662181715290249))));
  const auto ln_u = (exact(k) - 33.0) * 0.6931471805599453 + s * (2.0 + t * p);
  return root(ln_u * -2.0);
}

// sin and cos of 2 pi w / 2^32: the nearest quarter turn q, and an angle in [-pi/4, pi/4) from there.
template <std::int64_t N> struct Turn { Pack<Real, N> sin, cos; };
template <std::int64_t N>
[[gnu::always_inline]] inline Turn<N> turn(const Pack<Bits, N>& w) {
  const auto shifted = w + (std::uint64_t{1} << 29), q = shifted >> 30;
  const auto x = (exact(shifted & 0x3fffffff) - 536870912.0) * 1.4629180792671596e-09;   // 2 pi / 2^32
  const auto t = x * x;
  const auto s = x * (1.0 + t * (-0.16666666666666666 + t * (0.008333333333330948 + t * (-0.00019841269836758574 +
                 t * (2.755731610255244e-06 + t * (-2.505113184500362e-08 + t * 1.591812929486638e-10))))));
  const auto c = 1.0 - 0.5 * t + t * t * (0.04166666666666468 + t * (-0.0013888888887277342 +
                 t * (2.4801585210990515e-05 + t * (-2.7556369695573e-07 + t * 2.070060048343283e-09))));
  const auto odd = std::uint64_t{0} - (q & 1), swapped = (as<Bits>(s) ^ as<Bits>(c)) & odd;
  return {as<Real>(as<Bits>(s) ^ swapped ^ ((q & 2) << 62)), as<Real>(as<Bits>(c) ^ swapped ^ (((q + 1) & 2) << 62))};
}

// a and b dealt alternately, `unit` lanes at a time, starting from lane `start` of each.
template <std::int64_t unit, std::int64_t start, std::size_t... I>
Real deal(Real a, Real b, std::index_sequence<I...>) {
  constexpr auto from = [](std::int64_t i) { return i / unit % 2 * lanes + start + i / (2 * unit) * unit + i % unit; };
  return __builtin_shufflevector(a, b, from(std::int64_t(I))...);
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
  template <std::int64_t groups> static void put(const Blocks<groups>& blocks, std::uint32_t* y) {
    for (std::int64_t g = 0; g < groups; ++g)
      for (std::int64_t k = 0; k < lanes; ++k)
        for (int i = 0; i < 4; ++i) *y++ = std::uint32_t(blocks.w[i].v[g][k]);
  }
};

struct Uniform {
  static constexpr std::int64_t per_block = 2;
  // The upper 53 of 64 bits.
  template <std::int64_t N> [[gnu::always_inline]] static Pack<Real, N> of(const Pack<Bits, N>& low,
                                                                           const Pack<Bits, N>& high) {
    return (exact(high) * 2097152.0 + exact(low >> 11)) * 1.1102230246251565e-16;
  }
  template <std::int64_t groups, class T> [[gnu::always_inline]] static void put(const Blocks<groups>& blocks, T* y) {
    // A float keeps 24 significant bits, rounded down.
    const std::uint64_t kept = sizeof(T) == 4 ? ~std::uint64_t{0x1fffffff} : ~std::uint64_t{0};
    const auto a = as<Real>(as<Bits>(of(blocks.w[0], blocks.w[1])) & kept);
    const auto b = as<Real>(as<Bits>(of(blocks.w[2], blocks.w[3])) & kept);
    for (std::int64_t g = 0; g < groups; ++g) put_blocks(a.v[g], b.v[g], y + g * lanes * per_block);
  }
};

struct Normal {
  static constexpr std::int64_t per_block = 4;
  template <std::int64_t groups, class T> [[gnu::always_inline]] static void put(const Blocks<groups>& blocks, T* y) {
    constexpr std::int64_t half = (groups + 1) / 2;   // all of them would not fit the registers
    for (std::int64_t first = 0; first < groups; first += half, y += half * lanes * per_block) {
      const auto both = [&](int i, int j) {   // two words of each group
        return Pack<Bits, 2 * half>::of([&](std::int64_t g) { return blocks.w[g < half ? i : j].v[first + g % half]; });
      };
      const auto r = radius(both(0, 2));
      const auto t = turn(both(1, 3));
      const auto x = r * t.cos, z = r * t.sin;
      for (std::int64_t g = 0; g < half; ++g)
        put_blocks(x.v[g], z.v[g], x.v[half + g], z.v[half + g], y + g * lanes * per_block);
    }
  }
};

template <class Kind, class T>
void run(Stream from, std::int64_t n, T* y) {
  constexpr std::int64_t few = lanes * Kind::per_block, many = few * most_groups;
  for (; n >= many; n -= many, y += many, from.position += lanes * most_groups)
    Kind::put(philox<most_groups>(from), y);
  for (; n > 0; n -= few, y += few, from.position += lanes) {
    T rest[few];
    Kind::put(philox<1>(from), n >= few ? y : rest);
    for (std::int64_t i = 0; i < n && n < few; ++i) y[i] = rest[i];
  }
}

}  // namespace

namespace SURGEON_ISA {
const Random random = {run<AsBits, std::uint32_t>, run<Uniform, float>, run<Uniform, double>, run<Normal, float>,
                       run<Normal, double>};
}

}  // namespace surgeon::kernels
