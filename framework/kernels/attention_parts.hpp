// For isa_attention.cpp only: what forward and backward attention are made of. Exponentials, the running softmax, what
// a block of queries sees. Scores are kept transposed, keys in rows and queries in lanes: then maxima and sums over the
// keys need no shuffles.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/kernels/attention.hpp"
#include "framework/kernels/tiles.hpp"

namespace surgeon::kernels {
namespace {

constexpr std::int64_t block = Visibility::block;
constexpr std::int64_t longest_run = 2;   // blocks of keys taken at once where all is seen

template <class T>
std::int64_t padded(std::int64_t n) {
  return (n + Lanes<T>::count - 1) / Lanes<T>::count * Lanes<T>::count;
}

// What a score is multiplied by before exp, and what a query is. Factors that would overflow go into the query.
template <class T>
struct Factors {
  T exponent, query;   // exponent > 0, in units of ln 2
  explicit Factors(double scale) {
    constexpr double log2_e = 1.4426950408889634;
    const bool usual = std::abs(scale) > 1e-30 && std::abs(scale) < 1e30;
    exponent = T(usual ? std::abs(scale) * log2_e : log2_e);
    query = T(usual ? (scale < 0 ? -1.0 : 1.0) : scale);
  }
};

// 2^(x factor) for x <= 0, denormals included, nan for nan: 1 + f q(f) for the fraction f in [-1/2, 1/2], q being
// (2^f - 1) / f interpolated at Chebyshev's points. Relative error 5e-9 and 9e-18 before rounding. exp_gradual does as
// well with more care for what cannot be here; it costs attention 2 %.
template <class T>
struct Exponential {
  static constexpr int lowest = std::numeric_limits<T>::min_exponent - std::numeric_limits<T>::digits - 3;
  T factor, least;

  explicit Exponential(T factor_) : factor(factor_), least(T(lowest) / factor_) {}   // 2^(lowest + 1) rounds to 0

  Batch<T> operator()(const Batch<T>& x) const {
    if constexpr (Lanes<T>::count == 1) {
      return std::exp2(x * factor);
    } else {
      const Batch<T> magic(ExpNumbers<T>::magic), bounded = xsimd::max(Batch<T>(least), x);   // in this order nan stays
      const Batch<T> whole = xsimd::fma(bounded, Batch<T>(factor), magic) - magic;
      const Batch<T> f = xsimd::fms(bounded, Batch<T>(factor), whole);
      return times_power<T>(xsimd::fma(f, fraction(f), Batch<T>(T(1))), whole);
    }
  }

  static Batch<T> fraction(const Batch<T>& f) {
    if constexpr (sizeof(T) == 4)
      return horner<T>(f, 0.0001545316295, 0.001339086336, 0.009618082557, 0.05550357114, 0.2402265076, 0.693147188);
    else
      return horner<T>(f, 4.45496059818651839e-10, 7.0725859492692237e-9, 1.01780624458457735e-7,
                       1.32154425879216897e-6, 0.0000152527338298361184, 0.000154035304417360502,
                       0.00133335581464169353, 0.00961812910760688853, 0.0555041086648215943, 0.240226506959100982,
                       0.693147180559945309);
  }
  template <class U, class... Coefficients>
  static Batch<U> horner(const Batch<U>& f, double highest, Coefficients... rest) {
    Batch<U> sum(static_cast<U>(highest));
    ((sum = xsimd::fma(sum, f, Batch<U>(U(rest)))), ...);
    return sum;
  }
};

// Whether all numbers are: 0 times a finite number is 0, and nan otherwise.
template <class T>
bool finite(const T* x, std::int64_t rows, std::int64_t columns, std::int64_t row) {
  constexpr std::int64_t lanes = Lanes<T>::count;
  Batch<T> sum(T(0));
  T rest = 0;
  for (std::int64_t i = 0; i < rows; ++i) {
    std::int64_t j = 0;
    for (; j + lanes <= columns; j += lanes) sum = xsimd::fma(load(x + i * row + j), Batch<T>(T(0)), sum);
    for (; j < columns; ++j) rest += x[i * row + j] * T(0);
  }
  return rest == 0 && xsimd::all(sum == Batch<T>(T(0)));
}

// a b + c, rounded as the batches of this instruction set round it.
template <class T>
T fused_or_not(T a, T b, T c) {
#ifdef __FMA__
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

// small_gemm over what is visible only, with the same bits: 0 * nan would be nan. seen(i, j, k) says whether a(i, k) b(k, j) counts.
template <class T, class Seen>
void seen_gemm(std::int64_t rows, std::int64_t columns, std::int64_t inner, Strided<T> a, const T* b, std::int64_t ldb,
               T* c, std::int64_t ldc, Result result, const Seen& seen) {
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) {
      T sum = result == Result::add ? c[i * ldc + j] : T(0);
      for (std::int64_t k = 0; k < inner; ++k)
        if (seen(i, j, k)) sum = fused_or_not(a.data[i * a.row + k * a.inner], b[k * ldb + j], sum);
      c[i * ldc + j] = sum;
    }
}

bool bit(std::uint64_t word, std::int64_t i) { return word >> i & 1; }

// Lanes i, i + 1, ... of a word of bits.
template <class T>
auto lanes_of(std::uint64_t word, std::int64_t i) {
#ifdef __AVX512F__
  using Bool = xsimd::batch_bool<T>;
  return Bool(static_cast<typename Bool::register_type>(word >> i));
#else
  T ones[Lanes<T>::count];
  for (std::int64_t k = 0; k < Lanes<T>::count; ++k) ones[k] = T(bit(word, i + k));
  return load(ones) != Batch<T>(T(0));
#endif
}

// Some keys, and `lanes` queries of a block from `first` on. Each query sees each key, or as the words say.
struct Run {
  std::int64_t begin, size, first, lanes;
  const std::uint64_t* words;   // null: all
};

// The keys that some of the queries see: between the first and the last one.
inline Run narrowed(Run run, std::int64_t first, std::int64_t lanes) {
  const std::uint64_t queries = ((lanes == block ? 0 : std::uint64_t{1} << lanes) - 1) << first;
  std::int64_t begin = 0, end = run.size;
  while (begin < end && (run.words[begin] & queries) == 0) ++begin;
  while (begin < end && (run.words[end - 1] & queries) == 0) --end;
  return {run.begin + begin, end - begin, first, lanes, run.words + begin};
}

// Every run of the key blocks [from, to) that the queries of one block see. Where only some is seen, half a block of
// queries at a time: under a causal mask a quarter of the work falls away.
template <class T, class Body>
void each_run(const AttentionProblem<T>& p, const HeadPiece& piece, std::int64_t query_block, std::int64_t from,
              std::int64_t to, const Body& body) {
  using Kind = Visibility::Kind;
  const std::int64_t width = padded<T>(std::min(block, p.Tq - query_block * block));
  const auto kind = [&](std::int64_t j) {
    return p.visibility ? p.visibility->kind(piece.batch, piece.head, query_block, j) : Kind::all;
  };
  for (std::int64_t j = from; j < to;) {
    const Kind here = kind(j);
    std::int64_t end = j + 1;
    if (here == Kind::all)
      while (end < to && end < j + longest_run && kind(end) == Kind::all) ++end;
    Run run{j * block, std::min(end * block, p.Tk) - j * block, 0, width, nullptr};
    j = end;
    if (here == Kind::all) body(run);
    if (here != Kind::some) continue;
    run.words = p.visibility->words(piece.batch, piece.head, query_block) + run.begin;
    for (std::int64_t first = 0; first < width; first += block / 2) {
      const Run half = narrowed(run, first, std::min(block / 2, width - first));
      if (half.size > 0) body(half);
    }
  }
}

// The running softmax of a block of queries: the largest score, and the sum of exponentials so far. `lost` is what
// rounding took from the sum (Knuth, The Art of Computer Programming, 4.2.2): with thousands of keys it would show.
template <class T>
struct Online {
  T largest[block], sum[block], lost[block], correction[block];

  void start(std::int64_t width) {
    std::fill_n(largest, width, -std::numeric_limits<T>::infinity());
    std::fill_n(sum, width, T(0));
    std::fill_n(lost, width, T(0));
  }

  // Turns scores[keys, width] into exp(scores - largest); true when what was summed before must be multiplied by
  // `correction`.
  bool take(T* scores, std::int64_t width, const Run& run, const Exponential<T>& exp) {
    constexpr std::int64_t lanes = Lanes<T>::count, wide = tile_columns * lanes;
    const std::int64_t end = run.first + run.lanes;
    bool corrects = false;
    std::int64_t i = run.first;
    for (; i + wide <= end; i += wide) corrects |= take_columns<tile_columns>(scores, width, run, i, exp);
    for (; i < end; i += lanes) corrects |= take_columns<1>(scores, width, run, i, exp);
    return corrects;
  }

  template <int W>
  bool take_columns(T* scores, const std::int64_t width, const Run run, const std::int64_t first,
                    const Exponential<T> exp) {
    constexpr std::int64_t lanes = Lanes<T>::count;
    const Batch<T> minus_infinity(-std::numeric_limits<T>::infinity());
    Batch<T> now[W], shift[W], total[W];
    unrolled<W>([&](auto w) { now[w] = load(largest + first + w * lanes); });
    for (std::int64_t k = 0; k < run.size; ++k)
      unrolled<W>([&](auto w) {
        T* at = scores + k * width + first + w * lanes;
        if (run.words)
          store(at, xsimd::select(lanes_of<T>(run.words[k], first + w * lanes), load(at), minus_infinity));
        now[w] = xsimd::max(now[w], load(at));
      });
    bool corrects = false;
    unrolled<W>([&](auto w) {
      const std::int64_t i = first + w * lanes;
      const Batch<T> before = load(largest + i);
      shift[w] = xsimd::select(now[w] == minus_infinity, Batch<T>(T(0)), now[w]);   // dead: -inf - -inf is nan
      const Batch<T> factor = exp(before - shift[w]);
      total[w] = Batch<T>(T(0));   // of this run alone: few enough terms to add one after the other
      store(largest + i, now[w]);
      store(correction + i, factor);
      corrects |= xsimd::any(factor != Batch<T>(T(1)) && before != minus_infinity);
    });
    for (std::int64_t k = 0; k < run.size; ++k)
      unrolled<W>([&](auto w) {
        T* at = scores + k * width + first + w * lanes;
        const Batch<T> e = exp(load(at) - shift[w]);
        store(at, e);
        total[w] = total[w] + e;
      });
    unrolled<W>([&](auto w) { add_run(first + w * lanes, total[w]); });
    return corrects;
  }

  void add_run(std::int64_t i, const Batch<T>& run) {
    const Batch<T> before = load(sum + i) * load(correction + i), total = before + run, added = total - before;
    store(lost + i, load(lost + i) * load(correction + i) + ((before - (total - added)) + (run - added)));
    store(sum + i, total);
  }

  // Of each query its largest score and 1 / sum; both 0 for a query that saw nothing.
  void finish(std::int64_t queries, T* largest_score, T* inverse_sum) const {
    for (std::int64_t q = 0; q < queries; ++q) {
      largest_score[q] = sum[q] == 0 ? T(0) : largest[q];
      inverse_sum[q] = sum[q] == 0 ? T(0) : 1 / (sum[q] + lost[q]);
    }
  }

  void rescale(T* x, std::int64_t rows, std::int64_t width, const Run& run) const {
    constexpr std::int64_t lanes = Lanes<T>::count;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t i = run.first; i < run.first + run.lanes; i += lanes)
        store(x + r * width + i, load(x + r * width + i) * load(correction + i));
  }
};

}  // namespace
}  // namespace surgeon::kernels
