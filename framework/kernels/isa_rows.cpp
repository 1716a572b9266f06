// Row kernels; built once per instruction set.
#include <algorithm>
#include <cmath>

#include "framework/kernels/row_activations.hpp"
#include "framework/kernels/row_parts.hpp"
#include "framework/kernels/rows.hpp"
#include "framework/kernels/tiles.hpp"

namespace surgeon::kernels {
namespace {

// ---- Reductions ----------------------------------------------------------------------------------------------------

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
