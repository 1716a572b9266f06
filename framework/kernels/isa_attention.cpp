// Attention of one head, block by block; built once per instruction set. Scores are kept transposed, keys in rows and
// queries in lanes: then maxima and sums over the keys need no shuffles, and keys and values are read in place.
#include <bit>
#include <cmath>
#include <limits>

#include "framework/kernels/attention.hpp"
#include "framework/kernels/pool.hpp"
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
// (2^f - 1) / f interpolated at Chebyshev's points. Relative error 5e-9 and 9e-18 before rounding.
template <class T>
struct Exponential {
  using Int = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  static constexpr int mantissa = std::numeric_limits<T>::digits - 1;
  static constexpr int lowest = std::numeric_limits<T>::min_exponent - mantissa - 4;   // 2^(lowest + 1) rounds to 0
  static constexpr int lift = -lowest / 2;   // the power is made 2^lift too large, so that it is no denormal itself

  explicit Exponential(T factor_) : factor(factor_), least(T(lowest) / factor_) {}

  Batch<T> operator()(const Batch<T>& x) const {
    if constexpr (Lanes<T>::count == 1) {
      return std::exp2(x * factor);
    } else {
      const Batch<T> magic(T(3) * T(Int(1) << (mantissa - 1)));   // added, the low bits are the nearest integer
      const Batch<T> bounded = xsimd::max(Batch<T>(least), x);    // in this order nan stays nan
      const Batch<T> shifted = xsimd::fma(bounded, Batch<T>(factor), magic);
      const Batch<T> whole = shifted - magic, f = xsimd::fms(bounded, Batch<T>(factor), whole);
      const Batch<T> power = xsimd::fma(f, fraction(f), Batch<T>(T(1)));
#ifdef __AVX512F__
      if constexpr (sizeof(T) == 4) return _mm512_scalef_ps(power, whole);
      else return _mm512_scalef_pd(power, whole);
#else
      const auto bits = xsimd::bitwise_cast<xsimd::batch<Int>>(shifted);
      const auto exponent = bits + xsimd::batch<Int>(Int(std::numeric_limits<T>::max_exponent - 1 + lift));
      return power * xsimd::bitwise_cast<Batch<T>>(exponent << mantissa) * Batch<T>(std::ldexp(T(1), -lift));
#endif
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

  T factor, least;
};

template <class T>
bool finite(const T* x, std::int64_t rows, std::int64_t columns, std::int64_t row) {
  T sum = 0;
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) sum += x[i * row + j] * T(0);
  return sum == 0;
}

// small_gemm over what is seen only: 0 * nan would be nan. seen(i, j, k) says whether a(i, k) b(k, j) counts.
template <class T, class Seen>
void seen_gemm(std::int64_t rows, std::int64_t columns, std::int64_t inner, Strided<T> a, const T* b, std::int64_t ldb,
               T* c, std::int64_t ldc, bool add, const Seen& seen) {
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) {
      T sum = add ? c[i * ldc + j] : T(0);
      for (std::int64_t k = 0; k < inner; ++k)
        if (seen(i, j, k)) sum += a.data[i * a.row + k * a.inner] * b[k * ldb + j];
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

// The rows of one head, contiguous enough to stay in the nearest cache: rows far apart share its sets.
template <class T>
class Rows {
 public:
  Rows(const T* data, std::int64_t row, std::int64_t rows, std::int64_t columns)
      : copy_(row == columns ? 0 : rows * columns), data_(data), row_(row) {
    if (row == columns) return;
    for (std::int64_t i = 0; i < rows; ++i) std::copy_n(data + i * row, columns, copy_.data() + i * columns);
    data_ = copy_.data();
    row_ = columns;
  }
  const T* at(std::int64_t i) const { return data_ + i * row_; }
  Strided<T> by_row(std::int64_t i) const { return {at(i), row_, 1}; }      // a(key, component)
  Strided<T> by_column(std::int64_t i) const { return {at(i), 1, row_}; }   // a(component, key)
  std::int64_t row() const { return row_; }

 private:
  Scratch<T> copy_;
  const T* data_;
  std::int64_t row_;
};

// A run of keys that one block of queries sees: all of it, or as the words say.
struct Run {
  std::int64_t begin, size;
  const std::uint64_t* words;   // null: all
};

template <class T, class Body>
void each_run(const AttentionProblem<T>& p, const HeadPiece& piece, std::int64_t query_block, std::int64_t first,
              std::int64_t last, const Body& body) {
  using Kind = Visibility::Kind;
  const auto kind = [&](std::int64_t j) {
    return p.visibility ? p.visibility->kind(piece.batch, piece.head, query_block, j) : Kind::all;
  };
  for (std::int64_t j = first; j < last;) {
    const Kind here = kind(j);
    std::int64_t end = j + 1;
    if (here == Kind::all)
      while (end < last && end < j + longest_run && kind(end) == Kind::all) ++end;
    const std::int64_t begin = j * block, size = std::min(end * block, p.Tk) - begin;
    if (here == Kind::all) body(Run{begin, size, nullptr});
    if (here == Kind::some) body(Run{begin, size, p.visibility->words(piece.batch, piece.head, query_block) + begin});
    j = end;
  }
}

template <class T>
constexpr auto unchanged = [](const Batch<T>& v, std::int64_t) { return v; };

// The running softmax of a block of queries: largest score and sum so far.
template <class T>
struct Online {
  T largest[block], sum[block], correction[block];

  void start(std::int64_t width) {
    std::fill_n(largest, width, -std::numeric_limits<T>::infinity());
    std::fill_n(sum, width, T(0));
  }

  // Turns scores into exp(scores - largest); true when what was summed before must be multiplied by `correction`.
  bool take(T* scores, const Run& run, std::int64_t width, const Exponential<T>& exp) {
    constexpr std::int64_t lanes = Lanes<T>::count, wide = tile_columns * lanes;
    bool corrects = false;
    std::int64_t i = 0;
    for (; i + wide <= width; i += wide) corrects |= take_columns<tile_columns>(scores, run, width, i, exp);
    for (; i < width; i += lanes) corrects |= take_columns<1>(scores, run, width, i, exp);
    return corrects;
  }

  template <int W>
  bool take_columns(T* scores, const Run run, const std::int64_t width, const std::int64_t first,
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
      shift[w] = xsimd::select(now[w] == minus_infinity, Batch<T>(T(0)), now[w]);   // dead: -inf - -inf is nan
      const Batch<T> factor = exp(load(largest + i) - shift[w]);
      total[w] = load(sum + i) * factor;
      store(largest + i, now[w]);
      store(correction + i, factor);
      corrects |= xsimd::any(factor != Batch<T>(T(1)));
    });
    for (std::int64_t k = 0; k < run.size; ++k)
      unrolled<W>([&](auto w) {
        T* at = scores + k * width + first + w * lanes;
        const Batch<T> e = exp(load(at) - shift[w]);
        store(at, e);
        total[w] = total[w] + e;
      });
    unrolled<W>([&](auto w) { store(sum + first + w * lanes, total[w]); });
    return corrects;
  }

  void rescale(T* x, std::int64_t rows, std::int64_t width) const {
    constexpr std::int64_t lanes = Lanes<T>::count;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t i = 0; i < width; i += lanes)
        store(x + r * width + i, load(x + r * width + i) * load(correction + i));
  }
};

template <class T>
void forward_blocks(const AttentionProblem<T>& p, HeadsView<T> O, T* statistics, HeadPiece piece) {
  const Factors<T> factors(p.scale);
  const Exponential<T> exp(factors.exponent);
  const Rows<T> K(p.K.at(piece.batch, piece.head), p.K.row, p.Tk, p.d_k);
  const Rows<T> V(p.V.at(piece.batch, piece.head), p.V.row, p.Tk, p.d_v);
  const std::int64_t widest = std::min(block, padded<T>(p.Tq));
  Scratch<T> Q_t(p.d_k * widest), O_t(p.d_v * widest), scores(std::min(p.Tk, longest_run * block) * widest);
  Online<T> softmax;
  T* largest = statistics + (piece.batch * p.heads + piece.head) * p.Tq;
  T* inverse_sum = largest + p.batch * p.heads * p.Tq;

  for (std::int64_t i = piece.begin; i < piece.end; ++i) {
    const std::int64_t first = i * block, size = std::min(block, p.Tq - first), width = padded<T>(size);
    transpose(p.Q.at(piece.batch, piece.head) + first * p.Q.row, p.Q.row, size, p.d_k, Q_t.data(), width, true,
              [&](const Batch<T>& q, std::int64_t) { return q * Batch<T>(factors.query); });
    softmax.start(width);
    bool begun = false;
    each_run(p, piece, i, 0, (p.Tk + block - 1) / block, [&](const Run& run) {
      small_gemm(run.size, width, p.d_k, K.by_row(run.begin), Q_t.data(), width, scores.data(), width, false);
      if (softmax.take(scores.data(), run, width, exp) && begun) softmax.rescale(O_t.data(), p.d_v, width);
      if (run.words && !finite(V.at(run.begin), run.size, p.d_v, V.row()))
        seen_gemm(p.d_v, width, run.size, V.by_column(run.begin), scores.data(), width, O_t.data(), width, begun,
                  [&](auto, auto query, auto key) { return bit(run.words[key], query); });
      else
        small_gemm(p.d_v, width, run.size, V.by_column(run.begin), scores.data(), width, O_t.data(), width, begun);
      begun = true;
    });
    if (!begun) std::fill_n(O_t.data(), p.d_v * width, T(0));
    T inverse[block];
    for (std::int64_t q = 0; q < size; ++q) {
      inverse[q] = softmax.sum[q] == 0 ? T(0) : 1 / softmax.sum[q];
      inverse_sum[first + q] = inverse[q];
      largest[first + q] = softmax.sum[q] == 0 ? T(0) : softmax.largest[q];
    }
    transpose(O_t.data(), width, p.d_v, size, O.at(piece.batch, piece.head) + first * O.row, O.row, false,
              [&](const Batch<T>& o, std::int64_t q) { return o * Batch<T>(inverse[q]); });
  }
}

// One block of queries on the walk back: what depends on the queries alone.
template <class T>
struct QueryBlock {
  Scratch<T> Q_t, Q, dO_t, dO, dQ_t;   // _t: [d, width]; the others [size, padded d]
  std::int64_t first = 0, size = 0, width = 0;
  T largest[block], dot[block];        // dot: dO . O, over the sum of exponentials like dO

  QueryBlock(const AttentionProblem<T>& p, std::int64_t widest)
      : Q_t(p.d_k * widest), Q(block * padded<T>(p.d_k)), dO_t(p.d_v * widest), dO(block * padded<T>(p.d_v)),
        dQ_t(std::max(p.d_k, p.d_v) * widest) {}

  // dO is divided by the sum of exponentials here, once, instead of every weight.
  void load_block(const AttentionProblem<T>& p, const AttentionGradients<T>& g, const HeadPiece& piece, T query_factor,
                  std::int64_t index) {
    constexpr std::int64_t lanes = Lanes<T>::count;
    const std::int64_t b = piece.batch, h = piece.head;
    first = index * block, size = std::min(block, p.Tq - first), width = padded<T>(size);
    const T* statistics = g.statistics + (b * p.heads + h) * p.Tq + first;
    const T* inverse_sum = statistics + p.batch * p.heads * p.Tq;
    std::fill_n(largest, width, T(0));
    std::copy_n(statistics, size, largest);

    const T* q = p.Q.at(b, h) + first * p.Q.row;
    transpose(q, p.Q.row, size, p.d_k, Q_t.data(), width, true,
              [&](const Batch<T>& v, std::int64_t) { return v * Batch<T>(query_factor); });
    copy_rows(q, p.Q.row, p.d_k, Q.data(), [](std::int64_t) { return T(1); });
    copy_rows(g.dO.at(b, h) + first * g.dO.row, g.dO.row, p.d_v, dO.data(), [&](auto i) { return inverse_sum[i]; });
    transpose(dO.data(), padded<T>(p.d_v), size, p.d_v, dO_t.data(), width, true, unchanged<T>);

    // Summed in the order of the products dO V^T: a weight of exactly 1 then leaves a gradient of exactly 0.
    T* O_t = dQ_t.data();
    transpose(g.O.at(b, h) + first * g.O.row, g.O.row, size, p.d_v, O_t, width, true, unchanged<T>);
    for (std::int64_t i = 0; i < width; i += lanes) {
      Batch<T> sum(T(0));
      for (std::int64_t c = 0; c < p.d_v; ++c)
        sum = xsimd::fma(load(O_t + c * width + i), load(dO_t.data() + c * width + i), sum);
      store(dot + i, sum);
    }
  }

  template <class Factor>
  void copy_rows(const T* from, std::int64_t row, std::int64_t columns, T* to, const Factor& factor) {
    const std::int64_t wide = padded<T>(columns);
    for (std::int64_t i = 0; i < size; ++i) {
      const T scale = factor(i);
      for (std::int64_t c = 0; c < columns; ++c) to[i * wide + c] = from[i * row + c] * scale;
      std::fill_n(to + i * wide + columns, wide - columns, T(0));
    }
  }

  // Scores become exp(scores - largest), dO V^T becomes the gradient of the scores.
  void weigh(T* scores, T* products, const Run run, const Exponential<T> exp) const {
    constexpr std::int64_t lanes = Lanes<T>::count;
    const Batch<T> zero(T(0));
    const std::int64_t row = width;
    for (std::int64_t k = 0; k < run.size; ++k)
      for (std::int64_t i = 0; i < row; i += lanes) {
        T* s = scores + k * row + i;
        T* d = products + k * row + i;
        const Batch<T> e = exp(load(s) - load(largest + i)), gradient = e * (load(d) - load(dot + i));
        if (!run.words) {
          store(s, e);
          store(d, gradient);
        } else {
          const auto seen = lanes_of<T>(run.words[k], i);
          store(s, xsimd::select(seen, e, zero));
          store(d, xsimd::select(seen, gradient, zero));
        }
      }
  }
};

template <class T>
void backward_blocks(const AttentionProblem<T>& p, const AttentionGradients<T>& g, HeadPiece piece, T* dQ,
                     std::int64_t dQ_row) {
  const Factors<T> factors(p.scale);
  const Exponential<T> exp(factors.exponent);
  const std::int64_t begin = piece.begin * block, keys = std::min(piece.end * block, p.Tk) - begin;
  const Rows<T> K(p.K.at(piece.batch, piece.head) + begin * p.K.row, p.K.row, keys, p.d_k);
  const Rows<T> V(p.V.at(piece.batch, piece.head) + begin * p.V.row, p.V.row, keys, p.d_v);
  const std::int64_t widest = std::min(block, padded<T>(p.Tq)), wide_k = padded<T>(p.d_k), wide_v = padded<T>(p.d_v);
  const std::int64_t tile_size = std::min(keys, longest_run * block) * widest;
  Scratch<T> scores(tile_size), products(tile_size), dK(keys * wide_k), dV(keys * wide_v);
  QueryBlock<T> queries(p, widest);
  const bool wants_scores = dQ || g.dK.data;
  std::fill_n(dK.data(), g.dK.data ? keys * wide_k : 0, T(0));
  std::fill_n(dV.data(), g.dV.data ? keys * wide_v : 0, T(0));

  for (std::int64_t i = 0; i * block < p.Tq; ++i) {
    bool begun = false;
    each_run(p, piece, i, piece.begin, piece.end, [&](const Run& run) {
      if (!begun) queries.load_block(p, g, piece, factors.query, i);
      const std::int64_t key = run.begin - begin, width = queries.width, size = queries.size;
      small_gemm(run.size, width, p.d_k, K.by_row(key), queries.Q_t.data(), width, scores.data(), width, false);
      if (wants_scores)
        small_gemm(run.size, width, p.d_v, V.by_row(key), queries.dO_t.data(), width, products.data(), width, false);
      queries.weigh(scores.data(), products.data(), run, exp);

      // to[keys, d] += weights[keys, queries] from[queries, d]
      const auto add_to_keys = [&](const T* weights, const T* from, T* to, std::int64_t wide) {
        if (run.words && !finite(from, size, wide, wide))
          seen_gemm(run.size, wide, size, {weights, width, 1}, from, wide, to + key * wide, wide, true,
                    [&](auto k, auto, auto query) { return bit(run.words[k], query); });
        else
          small_gemm(run.size, wide, size, {weights, width, 1}, from, wide, to + key * wide, wide, true);
      };
      if (g.dV.data) add_to_keys(scores.data(), queries.dO.data(), dV.data(), wide_v);
      if (g.dK.data) add_to_keys(products.data(), queries.Q.data(), dK.data(), wide_k);
      if (dQ) {
        T* dQ_t = queries.dQ_t.data();
        if (run.words && !finite(K.at(key), run.size, p.d_k, K.row()))
          seen_gemm(p.d_k, width, run.size, K.by_column(key), products.data(), width, dQ_t, width, begun,
                    [&](auto, auto query, auto k) { return bit(run.words[k], query); });
        else
          small_gemm(p.d_k, width, run.size, K.by_column(key), products.data(), width, dQ_t, width, begun);
      }
      begun = true;
    });
    if (!dQ) continue;
    const std::int64_t first = i * block, size = std::min(block, p.Tq - first);
    if (begun)
      transpose(queries.dQ_t.data(), queries.width, p.d_k, size, dQ + first * dQ_row, dQ_row, false,
                [&](const Batch<T>& v, std::int64_t) { return v * Batch<T>(T(p.scale)); });
    else
      for (std::int64_t q = first; q < first + size; ++q) std::fill_n(dQ + q * dQ_row, p.d_k, T(0));
  }

  const auto write = [&](const T* from, std::int64_t wide, std::int64_t columns, const HeadsView<T>& to, T factor) {
    T* rows = to.at(piece.batch, piece.head) + begin * to.row;
    for (std::int64_t k = 0; k < keys; ++k)
      for (std::int64_t c = 0; c < columns; ++c) rows[k * to.row + c] = from[k * wide + c] * factor;
  };
  if (g.dK.data) write(dK.data(), wide_k, p.d_k, g.dK, T(p.scale));
  if (g.dV.data) write(dV.data(), wide_v, p.d_v, g.dV, T(1));
}

// ---- Few queries and keys ------------------------------------------------------------------------------------------
// With one small block there is no reuse that would pay for transposing: scores are dot products of rows, and every
// other product reads and writes rows in place. No scratch memory.
constexpr std::int64_t few_queries = 16;

template <class T>
bool few(const AttentionProblem<T>& p) {
  constexpr std::int64_t lanes = Lanes<T>::count;
  return p.Tq <= few_queries && p.Tk <= block && p.d_k % lanes == 0 && p.d_v % lanes == 0;
}

// y[j, i] = x1[j] . x2[i] * factor for rows of `inner` numbers, a whole number of batches. One batch of products at a
// time: as many sums as lanes, added up by transposing them.
template <class T>
void dot_products(std::int64_t rows1, const T* x1, std::int64_t row1, std::int64_t rows2, const T* x2, std::int64_t row2,
                  std::int64_t inner, T factor, T* y, std::int64_t ldy) {
  constexpr std::int64_t lanes = Lanes<T>::count;
  constexpr int N = lanes >= 16 ? 4 : lanes >= 4 ? 2 : 1, M = int(lanes) / N;
  for (std::int64_t j = 0; j < rows1; j += M)
    for (std::int64_t i = 0; i < rows2; i += N) {
      const T *from1[M], *from2[N];   // past the end the last row again, to be thrown away
      unrolled<M>([&](auto m) { from1[m] = x1 + std::min(j + m, rows1 - 1) * row1; });
      unrolled<N>([&](auto n) { from2[n] = x2 + std::min(i + n, rows2 - 1) * row2; });
      Batch<T> sums[lanes];
      unrolled<lanes>([&](auto l) { sums[l] = Batch<T>(T(0)); });
      for (std::int64_t c = 0; c < inner; c += lanes) {
        Batch<T> b[N];
        unrolled<N>([&](auto n) { b[n] = load(from2[n] + c); });
        unrolled<M>([&](auto m) {
          const Batch<T> a = load(from1[m] + c);
          unrolled<N>([&](auto n) { sums[m * N + n] = xsimd::fma(a, b[n], sums[m * N + n]); });
        });
      }
      transpose_tile<T>(sums, std::make_index_sequence<std::size_t(lanes)>());
      Batch<T> total = sums[0];
      for (std::int64_t l = 1; l < lanes; ++l) total = total + sums[l];
      T found[lanes];
      store(found, total * Batch<T>(factor));
      for (std::int64_t m = 0; m < std::min<std::int64_t>(M, rows1 - j); ++m)
        for (std::int64_t n = 0; n < std::min<std::int64_t>(N, rows2 - i); ++n) y[(j + m) * ldy + i + n] = found[m * N + n];
    }
}

// Products of weights with rows of numbers, over what is seen. by_query: c[query] = sum over keys, else c[key] = sum
// over queries.
template <class T>
void few_product(bool by_query, const Run& run, std::int64_t queries, std::int64_t width, const T* weights, const T* b,
                 std::int64_t ldb, std::int64_t columns, T* c, std::int64_t ldc) {
  const std::int64_t rows = by_query ? queries : run.size, inner = by_query ? run.size : queries;
  const Strided<T> a = by_query ? Strided<T>{weights, 1, width} : Strided<T>{weights, width, 1};
  if (run.words && !finite(b, inner, columns, ldb))
    seen_gemm(rows, columns, inner, a, b, ldb, c, ldc, false,
              [&](auto i, auto, auto k) { return by_query ? bit(run.words[k], i) : bit(run.words[i], k); });
  else
    small_gemm(rows, columns, inner, a, b, ldb, c, ldc, false);
}

template <class T>
void forward_few(const AttentionProblem<T>& p, HeadsView<T> O, T* statistics, HeadPiece piece) {
  constexpr std::int64_t lanes = Lanes<T>::count;
  const Factors<T> factors(p.scale);
  const std::int64_t width = padded<T>(p.Tq), b = piece.batch, h = piece.head;
  T* largest = statistics + (b * p.heads + h) * p.Tq;
  T* inverse_sum = largest + p.batch * p.heads * p.Tq;
  T* o = O.at(b, h);
  for (std::int64_t q = 0; q < p.Tq; ++q) {   // of dead rows, unless a run follows
    largest[q] = inverse_sum[q] = 0;
    std::fill_n(o + q * O.row, p.d_v, T(0));
  }
  each_run(p, piece, 0, 0, 1, [&](const Run& run) {
    alignas(64) T scores[block * few_queries] = {};
    dot_products(run.size, p.K.at(b, h), p.K.row, p.Tq, p.Q.at(b, h), p.Q.row, p.d_k, factors.query, scores, width);
    Online<T> softmax;
    softmax.start(width);
    softmax.take(scores, run, width, Exponential<T>(factors.exponent));
    T inverse[few_queries] = {};
    for (std::int64_t q = 0; q < p.Tq; ++q) {
      inverse_sum[q] = inverse[q] = softmax.sum[q] == 0 ? T(0) : 1 / softmax.sum[q];
      largest[q] = softmax.sum[q] == 0 ? T(0) : softmax.largest[q];
    }
    for (std::int64_t k = 0; k < run.size; ++k)
      for (std::int64_t i = 0; i < width; i += lanes)
        store(scores + k * width + i, load(scores + k * width + i) * load(inverse + i));
    few_product(true, run, p.Tq, width, scores, p.V.at(b, h), p.V.row, p.d_v, o, O.row);
  });
}

// Weights and the gradient of the products Q K^T, in place of the scores and of dO V^T.
template <class T>
void weigh_few(const AttentionProblem<T>& p, const Run& run, std::int64_t width, const T* statistics,
               const Exponential<T>& exp, T* scores, T* products) {
  constexpr std::int64_t lanes = Lanes<T>::count;
  T largest[few_queries] = {}, inverse[few_queries] = {};
  std::copy_n(statistics, p.Tq, largest);
  std::copy_n(statistics + p.batch * p.heads * p.Tq, p.Tq, inverse);
  const Batch<T> zero(T(0)), scale(static_cast<T>(p.scale));
  for (std::int64_t i = 0; i < width; i += lanes) {
    Batch<T> mean = zero;   // a weight of exactly 1 leaves a gradient of exactly 0
    for (std::int64_t k = 0; k < run.size; ++k) {
      T *s = scores + k * width + i, *d = products + k * width + i;
      Batch<T> weight = exp(load(s) - load(largest + i)) * load(inverse + i), product = load(d);
      if (run.words) {
        const auto seen = lanes_of<T>(run.words[k], i);
        weight = xsimd::select(seen, weight, zero);
        product = xsimd::select(seen, product, zero);
        store(d, product);
      }
      store(s, weight);
      mean = xsimd::fma(weight, product, mean);
    }
    for (std::int64_t k = 0; k < run.size; ++k) {
      T *s = scores + k * width + i, *d = products + k * width + i;
      Batch<T> gradient = load(s) * (load(d) - mean) * scale;
      if (run.words) gradient = xsimd::select(lanes_of<T>(run.words[k], i), gradient, zero);
      store(d, gradient);
    }
  }
}

template <class T>
void backward_few(const AttentionProblem<T>& p, const AttentionGradients<T>& g, HeadPiece piece) {
  const Factors<T> factors(p.scale);
  const std::int64_t width = padded<T>(p.Tq), b = piece.batch, h = piece.head;
  const T *Q = p.Q.at(b, h), *K = p.K.at(b, h), *V = p.V.at(b, h), *dO = g.dO.at(b, h);
  const auto clear = [&](const HeadsView<T>& x, std::int64_t rows, std::int64_t columns) {
    for (std::int64_t i = 0; x.data && i < rows; ++i) std::fill_n(x.at(b, h) + i * x.row, columns, T(0));
  };
  bool begun = false;
  each_run(p, piece, 0, 0, 1, [&](const Run& run) {
    begun = true;
    alignas(64) T scores[block * few_queries] = {}, products[block * few_queries] = {};
    dot_products(run.size, K, p.K.row, p.Tq, Q, p.Q.row, p.d_k, factors.query, scores, width);
    dot_products(run.size, V, p.V.row, p.Tq, dO, g.dO.row, p.d_v, T(1), products, width);
    weigh_few(p, run, width, g.statistics + (b * p.heads + h) * p.Tq, Exponential<T>(factors.exponent), scores, products);
    const auto into = [&](const HeadsView<T>& x, bool by_query, const T* weights, const T* rows, std::int64_t row,
                          std::int64_t columns) {
      if (x.data) few_product(by_query, run, p.Tq, width, weights, rows, row, columns, x.at(b, h), x.row);
    };
    into(g.dQ, true, products, K, p.K.row, p.d_k);
    into(g.dK, false, products, Q, p.Q.row, p.d_k);
    into(g.dV, false, scores, dO, g.dO.row, p.d_v);
  });
  if (begun) return;
  clear(g.dQ, p.Tq, p.d_k);
  clear(g.dK, p.Tk, p.d_k);
  clear(g.dV, p.Tk, p.d_v);
}

template <class T>
void forward(const AttentionProblem<T>& p, HeadsView<T> O, T* statistics, HeadPiece piece) {
  if (few(p)) forward_few(p, O, statistics, piece);
  else forward_blocks(p, O, statistics, piece);
}

template <class T>
void backward(const AttentionProblem<T>& p, const AttentionGradients<T>& g, HeadPiece piece, T* dQ, std::int64_t row) {
  if (few(p)) backward_few(p, g, piece);
  else backward_blocks(p, g, piece, dQ, row);
}

}  // namespace

namespace SURGEON_ISA {

const AttentionKernels<float> attention_float = {forward<float>, backward<float>};
const AttentionKernels<double> attention_double = {forward<double>, backward<double>};

}  // namespace SURGEON_ISA
}  // namespace surgeon::kernels
