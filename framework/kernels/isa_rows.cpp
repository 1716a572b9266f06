// Row kernels; built once per instruction set. Every row is treated alike wherever it lies: whole batches, and one
// masked batch for the rest, so that short rows are as fast per batch as long ones.
#include <cmath>
#include <limits>
#include <utility>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "framework/kernels/rows.hpp"
#include "framework/kernels/simd.hpp"
#include "framework/kernels/tiles.hpp"

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

template <class T>
void sum(const T* x, Size rows, Size cols, T* y) {
  for (Size r = 0; r < rows; ++r) y[r] = T(row_total(x + r * cols, cols));
}

// Four rows at a time, so that y is read and written a quarter as often.
template <class T>
void add_columns(const T* x, Size rows, Size cols, Size stride, double* y) {
  Size r = 0;
  for (; r + 4 <= rows; r += 4, x += 4 * stride)
    for (Size c = 0; c < cols; ++c)
      y[c] += (double(x[c]) + double(x[c + stride])) + (double(x[c + 2 * stride]) + double(x[c + 3 * stride]));
  for (; r < rows; ++r, x += stride)
    for (Size c = 0; c < cols; ++c) y[c] += double(x[c]);
}

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

// A nan in the row comes through.
template <class Op, class T>
void extreme(const T* x, Size rows, Size cols, T* y) {
  for (Size r = 0; r < rows; ++r, x += cols) {
    auto any = xsimd::isnan(Batch<T>(T(0)));
    y[r] = fold_row<T>(cols, Op::template least<T>, [=, &any](Size i, auto part) {
      const Batch<T> v = take(x + i, part, Op::template least<T>);
      any = any | xsimd::isnan(v);
      return v;
    }, Op());
    if (xsimd::any(any)) y[r] = nan<T>;
  }
}

// ---- Softmax and its relatives ------------------------------------------------------------------------------------
// max is subtracted so that exp cannot overflow. A nan in the row, or a max of +inf, makes the sum nan and so all.

template <class T>
void fill(T* y, Size n, T value) {
  for (Size i = 0; i < n; ++i) y[i] = value;
}

// The sum of exp(x - max); y, if it is kept, gets the terms.
template <bool keep, class T>
double sum_of_exp(const T* x, T max, Size n, T* y) {
  Sum<T> sum;
  each_or_four<T>(n, [=, &sum](Size i, auto part) {
    const auto from = take(x + i, part, -infinity<T>);
    const auto e = exp_gradual<T>(from - decltype(take(x, part))(max));
    if constexpr (keep) put(y + i, e, part);
    sum.add(e);
  });
  return sum.value();
}
template <class T>
double sum_of_exp(const T* x, T max, Size n) { return sum_of_exp<false>(x, max, n, static_cast<T*>(nullptr)); }

template <class T>
void softmax_row(const T* x, Size n, T* y) {
  const T max = row_max(x, n);
  if (max == -infinity<T>) return fill(y, n, T(0));
  if (n <= lanes<T>) {   // stays in the register
    const Batch<T> e = exp_gradual<T>(take(x, Part{n}, -infinity<T>) - Batch<T>(max));
    const T sum = fold<T>(e, [](const auto& a, const auto& b) { return a + b; });
    return put(y, e / Batch<T>(sum), Part{n});
  }
  const Batch<T> factor(T(1 / sum_of_exp<true>(x, max, n, y)));
  each<T>(n, [=](Size i, auto part) { put(y + i, take(y + i, part) * factor, part); });
}
template <class T>
void softmax(const T* x, Size rows, Size cols, T* y) {
  for (Size r = 0; r < rows; ++r) softmax_row(x + r * cols, cols, y + r * cols);
}

// Dead: the row was -inf throughout, and its result is this value throughout.
template <class T>
bool dead(const T* y, Size n, T value) {
  if (y[0] != value) return false;
  return row_max(y, n) == value;
}

template <class T>
void softmax_back(const T* y, const T* g, Size rows, Size cols, T* dx) {
  for (Size r = 0; r < rows; ++r, y += cols, g += cols, dx += cols) {
    if (dead(y, cols, T(0))) {
      fill(dx, cols, T(0));
      continue;
    }
    const Batch<T> dot(T(total<T>(cols, [=](Size i, auto part) { return take(y + i, part) * take(g + i, part); })));
    each<T>(cols, [=](Size i, auto part) { put(dx + i, take(y + i, part) * (take(g + i, part) - dot), part); });
  }
}

template <class T>
void log_softmax(const T* x, Size rows, Size cols, T* y) {
  for (Size r = 0; r < rows; ++r, x += cols, y += cols) {
    const T max = row_max(x, cols);
    if (max == -infinity<T>) {
      fill(y, cols, max);
      continue;
    }
    const Batch<T> shift(max), log_sum(T(std::log(sum_of_exp(x, max, cols))));
    each<T>(cols, [=](Size i, auto part) { put(y + i, (take(x + i, part) - shift) - log_sum, part); });
  }
}

template <class T>
void log_softmax_back(const T* y, const T* g, Size rows, Size cols, T* dx) {
  for (Size r = 0; r < rows; ++r, y += cols, g += cols, dx += cols) {
    if (dead(y, cols, -infinity<T>)) {
      fill(dx, cols, T(0));
      continue;
    }
    const T all = T(row_total(g, cols));
    each_or_four<T>(cols, [=](Size i, auto part) {
      const auto e = exp_gradual<T>(take(y + i, part));
      put(dx + i, take(g + i, part) - e * decltype(e)(all), part);
    });
  }
}

template <class T>
void logsumexp(const T* x, Size rows, Size cols, T* y) {
  for (Size r = 0; r < rows; ++r, x += cols) {
    const T max = row_max(x, cols);
    const double sum = sum_of_exp(x, std::isinf(max) ? T(0) : max, cols);   // of +inf: +inf, of -inf: 0
    y[r] = std::isinf(max) ? T(std::log(sum)) : T(double(max) + std::log(sum));
  }
}

template <class T>
void logsumexp_back(const T* x, const T* y, const T* g, Size rows, Size cols, T* dx) {
  for (Size r = 0; r < rows; ++r, x += cols, dx += cols) {
    if (y[r] == -infinity<T>) {
      fill(dx, cols, T(0));
      continue;
    }
    // Not exp(x - y): y is rounded, and at 1e8 by more than 1. The weights are those of softmax, which sum to 1.
    softmax_row(x, cols, dx);
    const Batch<T> factor(g[r]);
    each<T>(cols, [=](Size i, auto part) { put(dx + i, take(dx + i, part) * factor, part); });
  }
}

// -log softmax(x)[target] = log(sum) + max - x[target]; smoothing mixes in the mean of that over all classes.
template <class T>
double cross_entropy(const T* x, Size cols, Size target, double smoothing) {
  const T max = row_max(x, cols);
  if (max == -infinity<T>) return infinity<double>;
  const double log_sum = std::log(sum_of_exp(x, max, cols));
  const double loss = log_sum + (double(max) - double(x[target]));
  if (smoothing == 0) return loss;
  const Batch<T> shift(max);
  const double others = total<T>(cols, [=](Size i, auto part) { return shift - take(x + i, part, max); });
  return (1 - smoothing) * loss + smoothing * (log_sum + others / double(cols));
}

template <class T>
void cross_entropy_back(const T* x, Size cols, Size target, double smoothing, double g, T* dx) {
  const T max = row_max(x, cols);
  if (max == -infinity<T>) return fill(dx, cols, T(0));
  const Batch<T> factor(T(g / sum_of_exp<true>(x, max, cols, dx))), uniform(T(g * smoothing / double(cols)));
  each<T>(cols, [=](Size i, auto part) { put(dx + i, take(dx + i, part) * factor - uniform, part); });
  dx[target] -= T(g * (1 - smoothing));
}

// ---- Normalisation ------------------------------------------------------------------------------------------------

// 1 / sqrt(squares / n + eps), where squares is the sum over the row of value(i, part)^2. Should they overflow, they are
// taken again in units of the largest value.
template <class T, class Value>
double inverse_root(double squares, Size n, double eps, const Value& value) {
  if (std::isfinite(squares)) return 1 / std::sqrt(squares / double(n) + eps);
  const T unit = fold_row<T>(n, T(0), [=](Size i, auto part) { return xsimd::abs(value(i, part)); }, Larger());
  if (!std::isfinite(unit)) return 1 / std::sqrt(squares / double(n) + eps);
  const double share = total<T>(n, [=](Size i, auto part) {
    const Batch<T> v = value(i, part) / Batch<T>(unit);
    return v * v;
  });
  return 1 / (double(unit) * std::sqrt(share / double(n) + eps / double(unit) / double(unit)));
}

// The row as (x - centre - offset) * scale, of mean 0 and variance 1. Two passes, and the second also measures by how
// much the first one's mean was rounded: a row around 10^6 loses nothing.
template <class T>
struct Standard {
  Standard(const T* x, Size n, double eps) {
    const T mean = T(row_total(x, n) / double(n));
    centre = Batch<T>(mean);
    const auto [first, second] = two_totals<T>(n, [=, c = centre](Size i, auto part) {
      const Batch<T> d = take(x + i, part, mean) - c;
      return Two<T>{d, d * d};
    });
    const double rest = first / double(n);
    offset = Batch<T>(T(rest));
    const double squares = second - rest * rest * double(n);
    scale = Batch<T>(T(inverse_root<T>(squares, n, eps, [=, c = centre, o = offset](Size i, auto part) {
      return take(x + i, part, T(mean + T(rest))) - c - o;
    })));
  }
  template <class P> Batch<T> of(const T* x, P part) const { return (take(x, part) - centre - offset) * scale; }
  Batch<T> centre, offset, scale;
};

template <class T>
void layer_norm(const T* x, const T* gamma, const T* beta, double eps, Size rows, Size cols, T* y) {
  for (Size r = 0; r < rows; ++r, x += cols, y += cols) {
    const Standard<T> standard(x, cols, eps);
    each<T>(cols, [=](Size i, auto part) {
      put(y + i, xsimd::fma(standard.of(x + i, part), take(gamma + i, part), take(beta + i, part)), part);
    });
  }
}

template <class T, class P>
void add_to(T* sum, const Batch<T>& v, P part) { put(sum, take(sum, part) + v, part); }

// With h = (x - mean) / deviation and p = g gamma: dx = (p - mean(p) - h mean(p h)) / deviation.
template <class T>
void layer_norm_back(const T* x, const T* gamma, const T* g, double eps, Size rows, Size cols, T* dx, T* dgamma,
                     T* dbeta) {
  for (Size r = 0; r < rows; ++r, x += cols, g += cols) {
    const Standard<T> standard(x, cols, eps);
    const auto [level, along] = two_totals<T>(cols, [=](Size i, auto part) {
      const Batch<T> up = take(g + i, part), h = standard.of(x + i, part), p = up * take(gamma + i, part);
      if (dgamma) add_to(dgamma + i, up * h, part);
      if (dbeta) add_to(dbeta + i, up, part);
      return Two<T>{p, p * h};
    });
    if (!dx) continue;
    const Batch<T> mean(T(level / double(cols))), slope(T(along / double(cols)));
    each<T>(cols, [=](Size i, auto part) {
      const Batch<T> p = take(g + i, part) * take(gamma + i, part);
      put(dx + i, (p - mean - standard.of(x + i, part) * slope) * standard.scale, part);
    });
    dx += cols;
  }
}

template <class T>
double inverse_rms(const T* x, Size n, double eps) {
  const double squares = total<T>(n, [=](Size i, auto part) {
    const Batch<T> v = take(x + i, part);
    return v * v;
  });
  return inverse_root<T>(squares, n, eps, [=](Size i, auto part) { return take(x + i, part); });
}

template <class T>
void rms_norm(const T* x, const T* gamma, double eps, Size rows, Size cols, T* y) {
  for (Size r = 0; r < rows; ++r, x += cols, y += cols) {
    const Batch<T> scale(T(inverse_rms(x, cols, eps)));
    each<T>(cols, [=](Size i, auto part) { put(y + i, take(x + i, part) * scale * take(gamma + i, part), part); });
  }
}

// With h = x / rms and p = g gamma: dx = (p - h mean(p h)) / rms.
template <class T>
void rms_norm_back(const T* x, const T* gamma, const T* g, double eps, Size rows, Size cols, T* dx, T* dgamma) {
  for (Size r = 0; r < rows; ++r, x += cols, g += cols) {
    const Batch<T> scale(T(inverse_rms(x, cols, eps)));
    const double along = total<T>(cols, [=](Size i, auto part) {
      const Batch<T> gh = take(g + i, part) * (take(x + i, part) * scale);
      if (dgamma) add_to(dgamma + i, gh, part);
      return gh * take(gamma + i, part);
    });
    if (!dx) continue;
    const Batch<T> slope(T(along / double(cols)));
    each<T>(cols, [=](Size i, auto part) {
      const Batch<T> p = take(g + i, part) * take(gamma + i, part);
      put(dx + i, (p - take(x + i, part) * scale * slope) * scale, part);
    });
    dx += cols;
  }
}

// ---- Activations --------------------------------------------------------------------------------------------------

// Phi(-|x|) exp(x^2 / 2), the Mills ratio but for a factor, as a polynomial in 1 / (1 + 0.335 |x|), within 2e-8.
template <class B>
B upper_tail(const B& distance) {
  constexpr float terms[] = {-0.027790336541565368f, 0.15306489973667872f, -0.316813182073125f, 0.26894419824196f,
                             -0.0914454789004947f, 0.13792425079619366f, 0.10731082745548694f, 0.1352906582785834f,
                             0.1335092396358963f, 4.92027713930687e-06f};
  const B t = B(1.f) / multiply_add(distance, B(0.335f), B(1.f));
  B p(terms[0]);
  for (std::size_t k = 1; k < std::size(terms); ++k) p = multiply_add(p, t, B(terms[k]));
  return p;
}

// x Phi(x) and Phi(x) + x phi(x)
struct GeluExact {
  template <class T, class B> static B bell(const B& x) { return exp_gradual<T>(x * x * B(T(-0.5))); }
  template <class T, class B> static B cdf(const B& x, const B& bell) {
    using One = Batch<T>;
    if constexpr (sizeof(T) == 4) {
      const B tail = upper_tail(by_batch([](auto& x) { return xsimd::abs(x); }, x)) * bell;
      return by_batch([](auto& x, auto& tail) {
        return xsimd::select(x < One(T(0)), tail, One(T(1)) - tail);
      }, x, tail);
    } else {
      // erfc keeps its digits where 1 + erf has none left
      return B(T(0.5)) * by_batch([](auto& x) { return xsimd::erfc(x); }, x * B(T(-0.7071067811865476)));
    }
  }
  template <class T, class B> static B value(const B& x) { return x * cdf<T>(x, bell<T>(x)); }
  template <class T, class B> static B slope(const B& x) {
    const B density = bell<T>(x);
    return cdf<T>(x, density) + x * density * B(T(0.3989422804014327));
  }
};

// 1 / (1 + exp(-x)): exp may overflow, and the result is then 0.
template <class T, class B> B logistic(const B& x) { return B(T(1)) / (B(T(1)) + exp_gradual<T>(-x)); }

// x sigmoid(x) and s (1 + x (1 - s))
struct Silu {
  template <class T, class B> static B value(const B& x) { return x * logistic<T>(x); }
  template <class T, class B> static B slope(const B& x) {
    const B s = logistic<T>(x);
    return s * (B(T(1)) + x * (B(T(1)) - s));
  }
};

// x (1 + tanh(u)) / 2 = x sigmoid(2 u), with u = sqrt(2 / pi) (x + 0.044715 x^3)
struct GeluTanh {
  static constexpr double twice = 1.5957691216057308, cubic = 0.044715;
  template <class T, class B> static B gate(const B& x) {
    return logistic<T>(x * (B(T(twice)) + B(T(twice * cubic)) * (x * x)));
  }
  template <class T, class B> static B value(const B& x) { return x * gate<T>(x); }
  template <class T, class B> static B slope(const B& x) {
    const B s = gate<T>(x);
    const B near = by_batch([](auto& x) {   // beyond, s is flat, but x^2 may overflow
      return xsimd::select(xsimd::abs(x) > Batch<T>(T(100)), Batch<T>(T(0)), x);
    }, x);
    return s + s * (B(T(1)) - s) * near * (B(T(twice)) + B(T(3 * twice * cubic)) * (near * near));
  }
};

template <class F, class T>
void apply(const T* x, T* y, Size n) {
  each_or_four<T>(n, [=](Size i, auto part) { put(y + i, F::template value<T>(take(x + i, part)), part); });
}
template <class F, class T>
void apply_back(const T* x, const T* g, T* dx, Size n) {
  each_or_four<T>(n, [=](Size i, auto part) {
    put(dx + i, take(g + i, part) * F::template slope<T>(take(x + i, part)), part);
  });
}

// ---- Transposes ---------------------------------------------------------------------------------------------------

template <class T>
void transposed(const void* x, Size rows, Size cols, Size ldx, void* y, Size ldy) {
  const T* from = static_cast<const T*>(x);
  T* to = static_cast<T*>(y);
  if constexpr (sizeof(T) == 1) {
    constexpr Size tile = 32;
    for (Size r0 = 0; r0 < rows; r0 += tile)
      for (Size c0 = 0; c0 < cols; c0 += tile)
        for (Size c = c0; c < std::min(cols, c0 + tile); ++c)
          for (Size r = r0; r < std::min(rows, r0 + tile); ++r) to[c * ldy + r] = from[r * ldx + c];
  } else {
    transpose(from, ldx, rows, cols, to, ldy, Edge::exact, [](const Batch<T>& v, Size) { return v; });
  }
}

template <class T>
constexpr Rows<T> table_of() {
  return {row_total<T>, sum<T>, add_columns<T>, extreme<Larger, T>, extreme<Smaller, T>,
          softmax<T>, softmax_back<T>, log_softmax<T>, log_softmax_back<T>, logsumexp<T>, logsumexp_back<T>,
          layer_norm<T>, layer_norm_back<T>, rms_norm<T>, rms_norm_back<T>,
          apply<GeluExact, T>, apply_back<GeluExact, T>, apply<GeluTanh, T>, apply_back<GeluTanh, T>,
          apply<Silu, T>, apply_back<Silu, T>, cross_entropy<T>, cross_entropy_back<T>};
}

}  // namespace

namespace SURGEON_ISA {
const Rows<float> rows_float = table_of<float>();
const Rows<double> rows_double = table_of<double>();
const Transposes transposes = {transposed<std::uint8_t>, transposed<float>, transposed<double>};
}

}  // namespace surgeon::kernels
