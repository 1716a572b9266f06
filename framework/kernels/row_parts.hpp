// For isa_rows.cpp only: what its kernels are made of. Batches whole and in part, loops over a row, sums in float64,
// extremes. Every row is treated alike wherever it lies: whole batches, and one masked batch for the rest, so that
// short rows are as fast per batch as long ones.
#pragma once

#include <limits>
#include <utility>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "framework/kernels/rows.hpp"
#include "framework/kernels/simd.hpp"

namespace surgeon::kernels {
namespace {

template <class T> constexpr Size lanes = Lanes<T>::count;
template <class T> constexpr T infinity = std::numeric_limits<T>::infinity();
template <class T> constexpr T nan = std::numeric_limits<T>::quiet_NaN();

// ---- Batches, whole and in part -----------------------------------------------------------------------------------

struct Whole {};
struct Part { Size n; };   // the first n lanes
struct Fourfold {};        // four batches

template <class T> Batch<T> take(const T* x, Whole, T = T(0)) { return load(x); }
template <class T> void put(T* y, const Batch<T>& v, Whole) { store(y, v); }
template <class T> Four<T> take(const T* x, Fourfold, T = T(0)) {
  Four<T> y;
  for (Size k = 0; k < 4; ++k) y.v[k] = load(x + k * lanes<T>);
  return y;
}
template <class T> void put(T* y, const Four<T>& v, Fourfold) {
  for (Size k = 0; k < 4; ++k) store(y + k * lanes<T>, v.v[k]);
}

#if defined(__AVX512F__)
inline Batch<float> take(const float* x, Part part, float fill = 0) {
  return _mm512_mask_loadu_ps(_mm512_set1_ps(fill), __mmask16((1u << part.n) - 1), x);
}
inline Batch<double> take(const double* x, Part part, double fill = 0) {
  return _mm512_mask_loadu_pd(_mm512_set1_pd(fill), __mmask8((1u << part.n) - 1), x);
}
inline void put(float* y, const Batch<float>& v, Part part) {
  _mm512_mask_storeu_ps(y, __mmask16((1u << part.n) - 1), v);
}
inline void put(double* y, const Batch<double>& v, Part part) {
  _mm512_mask_storeu_pd(y, __mmask8((1u << part.n) - 1), v);
}
#elif defined(__AVX2__)
inline __m256i mask(Part part, float) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(part.n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline __m256i mask(Part part, double) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(part.n), _mm256_setr_epi64x(0, 1, 2, 3));
}
inline Batch<float> take(const float* x, Part part, float fill = 0) {
  const __m256i m = mask(part, fill);
  return _mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(x, m), _mm256_castsi256_ps(m));
}
inline Batch<double> take(const double* x, Part part, double fill = 0) {
  const __m256i m = mask(part, fill);
  return _mm256_blendv_pd(_mm256_set1_pd(fill), _mm256_maskload_pd(x, m), _mm256_castsi256_pd(m));
}
inline void put(float* y, const Batch<float>& v, Part part) { _mm256_maskstore_ps(y, mask(part, 0.f), v); }
inline void put(double* y, const Batch<double>& v, Part part) { _mm256_maskstore_pd(y, mask(part, 0.0), v); }
#else
template <class T> Batch<T> take(const T* x, Part part, T fill = T(0)) {
  T padded[lanes<T>];
  for (Size k = 0; k < lanes<T>; ++k) padded[k] = k < part.n ? x[k] : fill;
  return load(padded);
}
template <class T> void put(T* y, const Batch<T>& v, Part part) {
  T padded[lanes<T>];
  store(padded, v);
  for (Size k = 0; k < part.n; ++k) y[k] = padded[k];
}
#endif

// f(i, part) for each batch of a row of n. Here and below f is taken by value and captures by value: through a
// reference, all it captured would be read again after every store. Flattened, or f's constants would be too.
template <class T, class F>
[[gnu::flatten]] void each(Size n, F f) {
  Size i = 0;
  for (; i + lanes<T> <= n; i += lanes<T>) f(i, Whole());
  if (i < n) f(i, Part{n - i});
}

// The same by four batches as long as there are; f must take them.
template <class T, class F>
[[gnu::flatten]] void each_or_four(Size n, F f) {
  Size i = 0;
  for (; i + 4 * lanes<T> <= n; i += 4 * lanes<T>) f(i, Fourfold());
  for (; i + lanes<T> <= n; i += lanes<T>) f(i, Whole());
  if (i < n) f(i, Part{n - i});
}

// Lanes folded into one number, halves onto each other; f takes vectors and numbers alike.
template <class T, Size n, class V, class F, std::size_t... I>
T fold_vector(const V& v, const F& f, std::index_sequence<I...>) {
  if constexpr (n == 2) {
    return f(v[0], v[1]);
  } else {
    const auto low = __builtin_shufflevector(v, v, I...), high = __builtin_shufflevector(v, v, (I + sizeof...(I))...);
    return fold_vector<T, n / 2>(f(low, high), f, std::make_index_sequence<std::size_t(n / 4)>());
  }
}
template <class T, class F>
T fold(const Batch<T>& v, const F& f) {
  if constexpr (lanes<T> == 1) return v;
  else return fold_vector<T, lanes<T>>(v.data, f, std::make_index_sequence<std::size_t(lanes<T> / 2)>());
}

// f(i, part) folded over a row by op, four batches side by side so that none waits for the one before.
template <class T, class F, class Op>
[[gnu::flatten]] T fold_row(Size n, T start, F f, Op op) {
  Batch<T> a(start), b(start), c(start), d(start);
  Size i = 0;
  for (; i + 4 * lanes<T> <= n; i += 4 * lanes<T>) {
    a = op(a, f(i, Whole()));
    b = op(b, f(i + lanes<T>, Whole()));
    c = op(c, f(i + 2 * lanes<T>, Whole()));
    d = op(d, f(i + 3 * lanes<T>, Whole()));
  }
  for (; i + lanes<T> <= n; i += lanes<T>) a = op(a, f(i, Whole()));
  if (i < n) b = op(b, f(i, Part{n - i}));
  return fold<T>(op(op(a, b), op(c, d)), op);
}

// ---- Sums in float64 ----------------------------------------------------------------------------------------------

// A batch as float64: two of them for float32.
template <class T> constexpr std::size_t widths = sizeof(double) / sizeof(T);
template <class T> struct Wide { Batch<double> part[widths<T>]; };

template <class V, std::size_t... I>
Wide<float> halves_in_doubles(const V& v, std::index_sequence<I...>) {
  const auto low = __builtin_shufflevector(v, v, I...), high = __builtin_shufflevector(v, v, (I + sizeof...(I))...);
#if defined(__AVX512F__)
  return {{Batch<double>(_mm512_cvtps_pd(low)), Batch<double>(_mm512_cvtps_pd(high))}};
#else
  using D = Batch<double>;
  using Half = decltype(D::data);
  return {{D(Half(__builtin_convertvector(low, Half))), D(Half(__builtin_convertvector(high, Half)))}};
#endif
}
template <class T>
Wide<T> in_doubles(const Batch<T>& v) {
  if constexpr (sizeof(T) == 8) return {{v}};
  else if constexpr (lanes<T> == 1) return {{double(v), 0.0}};
  else return halves_in_doubles(v.data, std::make_index_sequence<std::size_t(lanes<T> / 2)>());
}

// The sum of what is added, batch by batch.
template <class T>
class Sum {
 public:
  Sum() {
    for (auto& part : sum_.part) part = Batch<double>(0.0);
  }
  void add(const Batch<T>& v) {
    const Wide<T> w = in_doubles<T>(v);
    for (std::size_t k = 0; k < widths<T>; ++k) sum_.part[k] += w.part[k];
  }
  void add(const Four<T>& v) { add((v.v[0] + v.v[1]) + (v.v[2] + v.v[3])); }
  double value() const {
    Batch<double> all = sum_.part[0];
    for (std::size_t k = 1; k < widths<T>; ++k) all += sum_.part[k];
    return fold<double>(all, [](const auto& a, const auto& b) { return a + b; });
  }

 private:
  Wide<T> sum_;
};

// The sum over a row of f(i, part), added up in fours before it is widened.
template <class T, class F>
[[gnu::flatten]] double total(Size n, F f) {
  constexpr Size step = lanes<T>;
  Sum<T> sum;
  Size i = 0;
  for (; i + 4 * step <= n; i += 4 * step) {
    const Batch<T> a = f(i, Whole()), b = f(i + step, Whole());
    const Batch<T> c = f(i + 2 * step, Whole()), d = f(i + 3 * step, Whole());
    sum.add((a + b) + (c + d));
  }
  for (; i + step <= n; i += step) sum.add(f(i, Whole()));
  if (i < n) sum.add(f(i, Part{n - i}));
  return sum.value();
}

// The same for two sums at once.
template <class T> struct Two { Batch<T> first, second; };
struct TwoTotals { double first, second; };
template <class T, class F>
[[gnu::flatten]] TwoTotals two_totals(Size n, F f) {
  constexpr Size step = lanes<T>;
  Sum<T> first, second;
  Size i = 0;
  for (; i + 4 * step <= n; i += 4 * step) {
    const Two<T> a = f(i, Whole()), b = f(i + step, Whole());
    const Two<T> c = f(i + 2 * step, Whole()), d = f(i + 3 * step, Whole());
    first.add((a.first + b.first) + (c.first + d.first));
    second.add((a.second + b.second) + (c.second + d.second));
  }
  const auto add = [&](const Two<T>& terms) {
    first.add(terms.first);
    second.add(terms.second);
  };
  for (; i + step <= n; i += step) add(f(i, Whole()));
  if (i < n) add(f(i, Part{n - i}));
  return {first.value(), second.value()};
}

// A short row is summed in order, as one would by hand.
template <class T>
double row_total(const T* x, Size n) {
  if (n <= 8) {
    double sum = 0;
    for (Size i = 0; i < n; ++i) sum += double(x[i]);
    return sum;
  }
  return total<T>(n, [=](Size i, auto part) { return take(x + i, part); });
}

// ---- Extremes ------------------------------------------------------------------------------------------------------

// a where it is larger, or smaller; else b, also when either is nan.
struct Larger {
  template <class V> V operator()(const V& a, const V& b) const { return a > b ? a : b; }
  template <class T, class A>
  xsimd::batch<T, A> operator()(const xsimd::batch<T, A>& a, const xsimd::batch<T, A>& b) const {
    return xsimd::max(a, b);
  }
  template <class T> static constexpr T least = -infinity<T>;
};
struct Smaller {
  template <class V> V operator()(const V& a, const V& b) const { return a < b ? a : b; }
  template <class T, class A>
  xsimd::batch<T, A> operator()(const xsimd::batch<T, A>& a, const xsimd::batch<T, A>& b) const {
    return xsimd::min(a, b);
  }
  template <class T> static constexpr T least = infinity<T>;
};

// A nan in the row is passed over, unless that leaves nothing but the least: then it comes through.
template <class Op, class T>
T extreme_but_nan(const T* x, Size n) {
  constexpr T least = Op::template least<T>;
  const T found = fold_row<T>(n, least, [=](Size i, auto part) { return take(x + i, part, least); },
                              [](const auto& a, const auto& b) { return Op()(b, a); });
  if (found == least)
    for (Size i = 0; i < n; ++i)
      if (x[i] != x[i]) return x[i];
  return found;
}
template <class T> T row_max(const T* x, Size n) { return extreme_but_nan<Larger>(x, n); }

}  // namespace
}  // namespace surgeon::kernels
