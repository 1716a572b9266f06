// Attention of one head, block by block; built once for each instruction set. Keys and values are read in place, number
// by number; queries, their gradient and the output are transposed one block at a time.
#include <optional>
#include <utility>

#include "framework/kernels/attention_few.hpp"
#include "framework/kernels/attention_parts.hpp"
#include "framework/kernels/pool.hpp"

namespace surgeon::kernels {
namespace {

// The keys or values of one head. Many of them that lie far apart are copied: they would push each other out of the
// caches.
template <class T>
class Rows {
 public:
  Rows(const T* data, std::int64_t row, std::int64_t rows, std::int64_t columns)
      : copied_(row != columns && rows > 256), copy_(copied_ ? rows * columns : 0), data_(data), row_(row) {
    if (!copied_) return;
    for (std::int64_t i = 0; i < rows; ++i) std::copy_n(data + i * row, columns, copy_.data() + i * columns);
    data_ = copy_.data();
    row_ = columns;
  }
  const T* at(std::int64_t i) const { return data_ + i * row_; }
  Strided<T> by_row(std::int64_t i) const { return {at(i), row_, 1}; }      // a(key, component)
  Strided<T> by_column(std::int64_t i) const { return {at(i), 1, row_}; }   // a(component, key)
  std::int64_t row() const { return row_; }

 private:
  bool copied_;
  Scratch<T> copy_;
  const T* data_;
  std::int64_t row_;
};

template <class T>
constexpr auto unchanged = [](const Batch<T>& v, std::int64_t) { return v; };

// y[d, queries of the run] += (rows of x)^T weights, over what is visible.
template <class T>
void add_columns(const Rows<T>& x, std::int64_t key, std::int64_t d, const T* weights, std::int64_t width,
                 const Run& run, T* y) {
  weights += run.first;
  y += run.first;
  if (run.words && !finite(x.at(key), run.size, d, x.row()))
    seen_gemm(d, run.lanes, run.size, x.by_column(key), weights, width, y, width, Result::add,
              [&](auto, auto query, auto k) { return bit(run.words[k], run.first + query); });
  else
    small_gemm(d, run.lanes, run.size, x.by_column(key), weights, width, y, width, Result::add);
}

// A sum of products, of which there may be thousands: sixteen at a time are added up apart, so that rounding does not
// grow with their number.
template <class T>
class LongSum {
 public:
  explicit LongSum(std::int64_t largest) : largest_(largest), part_(largest) {}
  void start(std::int64_t size) {
    size_ = size, added_ = 0, carried_ = false;
    std::fill_n(part_.data(), size, T(0));
  }
  T* next() {   // where the next product is to be added
    if (added_++ == 16) carry();
    return part_.data();
  }
  T* total() {
    if (carried_) carry();
    return carried_ ? whole_->data() : part_.data();
  }
  template <class Change> void change(const Change& f) {
    f(part_.data());
    if (carried_) f(whole_->data());
  }

 private:
  void carry() {
    if (!whole_) whole_.emplace(largest_);
    T *part = part_.data(), *whole = whole_->data();
    for (std::int64_t i = 0; i < size_; ++i) whole[i] = carried_ ? whole[i] + part[i] : part[i];
    std::fill_n(part, size_, T(0));
    added_ = 1, carried_ = true;
  }

  std::int64_t largest_, size_ = 0, added_ = 0;
  Scratch<T> part_;
  std::optional<Scratch<T>> whole_;   // of sums that are long
  bool carried_ = false;
};

// Online softmax, one block of queries at a time. For each run of keys that the block sees:
//   scores [keys, queries] = K Q^T;  weights = exp(scores - largest so far), in place;  sum [queries] += their sums
//   O_t [d_v, queries] = O_t * exp(largest before - largest now) + V^T weights
// Then O = (O_t / sum)^T. statistics: each query's largest score and 1 / sum.
template <class T>
void forward_blocks(const AttentionProblem<T>& p, HeadsView<T> O, T* statistics, HeadPiece piece) {
  const Factors<T> factors(p.scale);
  const Exponential<T> exp(factors.exponent);
  const Rows<T> K(p.K.at(piece.batch, piece.head), p.K.row, p.Tk, p.d_k);
  const Rows<T> V(p.V.at(piece.batch, piece.head), p.V.row, p.Tk, p.d_v);
  const std::int64_t widest = std::min(block, padded<T>(p.Tq));
  Scratch<T> Q_t(p.d_k * widest), scores(std::min(p.Tk, longest_run * block) * widest);
  LongSum<T> O_t(p.d_v * widest);
  Online<T> softmax;
  T inverse[block];
  T* largest = statistics + (piece.batch * p.heads + piece.head) * p.Tq;
  T* inverse_sum = largest + p.batch * p.heads * p.Tq;

  for (std::int64_t i = piece.begin; i < piece.end; ++i) {
    const std::int64_t first = i * block, size = std::min(block, p.Tq - first), width = padded<T>(size);
    transpose(p.Q.at(piece.batch, piece.head) + first * p.Q.row, p.Q.row, size, p.d_k, Q_t.data(), width, Edge::padded,
              [&](const Batch<T>& q, std::int64_t) { return q * Batch<T>(factors.query); });
    softmax.start(width);
    O_t.start(p.d_v * width);
    each_run(p, piece, i, 0, (p.Tk + block - 1) / block, [&](const Run& run) {
      small_gemm(run.size, run.lanes, p.d_k, K.by_row(run.begin), Q_t.data() + run.first, width,
                 scores.data() + run.first, width, Result::set);
      if (softmax.take(scores.data(), width, run, exp))
        O_t.change([&](T* sum) { softmax.rescale(sum, p.d_v, width, run); });
      add_columns(V, run.begin, p.d_v, scores.data(), width, run, O_t.next());
    });
    softmax.finish(size, largest + first, inverse);
    std::copy_n(inverse, size, inverse_sum + first);
    transpose(O_t.total(), width, p.d_v, size, O.at(piece.batch, piece.head) + first * O.row, O.row, Edge::exact,
              [&](const Batch<T>& o, std::int64_t q) { return o * Batch<T>(inverse[q]); });
  }
}

// One block of queries in the backward pass: what depends on the queries alone.
template <class T>
struct QueryBlock {
  Scratch<T> Q_t, Q, dO_t, dO;         // _t: [d, width]; the others [size, padded d]
  LongSum<T> dQ_t;
  std::int64_t first = 0, size = 0, width = 0;
  T largest[block], dot[block];        // dot: dO . O, over the sum of exponentials like dO

  QueryBlock(const AttentionProblem<T>& p, std::int64_t widest)
      : Q_t(p.d_k * widest), Q(block * padded<T>(p.d_k)), dO_t(p.d_v * widest), dO(block * padded<T>(p.d_v)),
        dQ_t(std::max(p.d_k, p.d_v) * widest) {}

  // dO is divided by the sum of exponentials here, once, instead of every weight.
  void load_block(const AttentionProblem<T>& p, const AttentionGradients<T>& g, const HeadPiece& piece, T query_factor,
                  std::int64_t index) {
    const std::int64_t b = piece.batch, h = piece.head;
    first = index * block, size = std::min(block, p.Tq - first), width = padded<T>(size);
    const T* statistics = g.statistics + (b * p.heads + h) * p.Tq + first;
    const T* inverse_sum = statistics + p.batch * p.heads * p.Tq;
    std::fill_n(largest, width, T(0));
    std::copy_n(statistics, size, largest);

    const T* q = p.Q.at(b, h) + first * p.Q.row;
    transpose(q, p.Q.row, size, p.d_k, Q_t.data(), width, Edge::padded,
              [&](const Batch<T>& v, std::int64_t) { return v * Batch<T>(query_factor); });
    copy_rows(q, p.Q.row, p.d_k, Q.data(), [](std::int64_t) { return T(1); });
    copy_rows(g.dO.at(b, h) + first * g.dO.row, g.dO.row, p.d_v, dO.data(), [&](auto i) { return inverse_sum[i]; });
    transpose(dO.data(), padded<T>(p.d_v), size, p.d_v, dO_t.data(), width, Edge::padded, unchanged<T>);

    dQ_t.start(0);
    T* O_t = dQ_t.next();   // not needed for dQ yet
    transpose(g.O.at(b, h) + first * g.O.row, g.O.row, size, p.d_v, O_t, width, Edge::padded, unchanged<T>);
    std::int64_t i = 0;
    for (; i + tile_columns * Lanes<T>::count <= width; i += tile_columns * Lanes<T>::count)
      dot_columns<tile_columns>(O_t, p.d_v, i);
    for (; i < width; i += Lanes<T>::count) dot_columns<1>(O_t, p.d_v, i);
    dQ_t.start(p.d_k * width);
  }

  // Summed in the order of the products dO V^T: a weight of exactly 1 then leaves a gradient of exactly 0.
  template <int W>
  void dot_columns(const T* O_t, std::int64_t d_v, std::int64_t i) {
    constexpr std::int64_t lanes = Lanes<T>::count;
    Batch<T> sum[W];
    unrolled<W>([&](auto w) { sum[w] = Batch<T>(T(0)); });
    for (std::int64_t c = 0; c < d_v; ++c)
      unrolled<W>([&](auto w) {
        const std::int64_t at = c * width + i + w * lanes;
        sum[w] = xsimd::fma(load(O_t + at), load(dO_t.data() + at), sum[w]);
      });
    unrolled<W>([&](auto w) { store(dot + i + w * lanes, sum[w]); });
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
    const Batch<T> zero(T(0));
    const std::int64_t row = width;
    for (std::int64_t k = 0; k < run.size; ++k)
      for (std::int64_t i = run.first; i < run.first + run.lanes; i += Lanes<T>::count) {
        T *s = scores + k * row + i, *d = products + k * row + i;
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

  // y[keys of the run, wide] += weights from[queries, wide], over what is visible.
  void add_rows(const T* weights, const T* from, const Run& run, T* y, std::int64_t wide) const {
    const std::int64_t queries = std::min(run.lanes, size - run.first);
    const Strided<T> a{weights + run.first, width, 1};
    from += run.first * wide;
    if (run.words && !finite(from, queries, wide, wide))
      seen_gemm(run.size, wide, queries, a, from, wide, y, wide, Result::add,
                [&](auto k, auto, auto query) { return bit(run.words[k], run.first + query); });
    else
      small_gemm(run.size, wide, queries, a, from, wide, y, wide, Result::add);
  }
};

// The gradient of block i, or 0 where nothing of the piece was seen.
template <class T>
void write_queries(const AttentionProblem<T>& p, QueryBlock<T>& queries, std::int64_t i, bool seen, T* dQ,
                   std::int64_t dQ_row) {
  const std::int64_t size = std::min(block, p.Tq - i * block);
  if (seen)
    transpose(queries.dQ_t.total(), queries.width, p.d_k, size, dQ, dQ_row, Edge::exact,
              [&](const Batch<T>& v, std::int64_t) { return v * Batch<T>(static_cast<T>(p.scale)); });
  else
    for (std::int64_t q = 0; q < size; ++q) std::fill_n(dQ + q * dQ_row, p.d_k, T(0));
}

// The gradient of the keys or of the values of one piece, summed over the queries: [keys, padded d].
template <class T>
struct KeySums {
  std::int64_t keys, columns, wide;
  LongSum<T> sums;
  T* now = nullptr;

  KeySums(std::int64_t keys_, std::int64_t d, const HeadsView<T>& wanted)
      : keys(keys_), columns(d), wide(padded<T>(d)), sums(wanted.data ? keys * wide : 0) {
    sums.start(wanted.data ? keys * wide : 0);
  }
  void next_queries() { now = sums.next(); }
  T* at(std::int64_t key) { return now + key * wide; }
  void write(const HeadPiece& piece, const HeadsView<T>& to, T factor) {
    const T* from = sums.total();
    T* rows = to.at(piece.batch, piece.head) + piece.begin * block * to.row;
    for (std::int64_t k = 0; k < keys; ++k)
      for (std::int64_t c = 0; c < columns; ++c) rows[k * to.row + c] = from[k * wide + c] * factor;
  }
};

// One piece of the keys, with every block of queries that sees some of it. dO is divided by the sum of exponentials
// beforehand. For each run of keys, everything [keys, queries]:
//   scores = K Q^T;  products = V dO^T;  weights = exp(scores - largest);  gradient = weights (products - dO . O)
// Then dV [keys, d_v] += weights dO;  dK [keys, d_k] += gradient Q;  dQ_t [d_k, queries] += K^T gradient.
template <class T>
void backward_blocks(const AttentionProblem<T>& p, const AttentionGradients<T>& g, HeadPiece piece, T* dQ,
                     std::int64_t dQ_row) {
  const Factors<T> factors(p.scale);
  const Exponential<T> exp(factors.exponent);
  const std::int64_t begin = piece.begin * block, keys = std::min(piece.end * block, p.Tk) - begin;
  const Rows<T> K(p.K.at(piece.batch, piece.head) + begin * p.K.row, p.K.row, keys, p.d_k);
  const Rows<T> V(p.V.at(piece.batch, piece.head) + begin * p.V.row, p.V.row, keys, p.d_v);
  const std::int64_t widest = std::min(block, padded<T>(p.Tq)), tile = std::min(keys, longest_run * block) * widest;
  Scratch<T> scores(tile), products(tile);
  KeySums<T> dK(keys, p.d_k, g.dK), dV(keys, p.d_v, g.dV);
  QueryBlock<T> queries(p, widest);

  for (std::int64_t i = 0; i * block < p.Tq; ++i) {
    bool loaded = false;
    each_run(p, piece, i, piece.begin, piece.end, [&](const Run& run) {
      if (!std::exchange(loaded, true)) {
        queries.load_block(p, g, piece, factors.query, i);
        dK.next_queries(), dV.next_queries();
      }
      const std::int64_t key = run.begin - begin, width = queries.width;
      const auto multiply = [&](const Rows<T>& x, std::int64_t d, const T* columns, T* y) {
        small_gemm(run.size, run.lanes, d, x.by_row(key), columns + run.first, width, y + run.first, width,
                   Result::set);
      };
      multiply(K, p.d_k, queries.Q_t.data(), scores.data());
      multiply(V, p.d_v, queries.dO_t.data(), products.data());
      queries.weigh(scores.data(), products.data(), run, exp);
      if (g.dV.data) queries.add_rows(scores.data(), queries.dO.data(), run, dV.at(key), dV.wide);
      if (g.dK.data) queries.add_rows(products.data(), queries.Q.data(), run, dK.at(key), dK.wide);
      if (dQ) add_columns(K, key, p.d_k, products.data(), width, run, queries.dQ_t.next());
    });
    if (dQ) write_queries(p, queries, i, loaded, dQ + i * block * dQ_row, dQ_row);
  }
  if (g.dK.data) dK.write(piece, g.dK, T(p.scale));
  if (g.dV.data) dV.write(piece, g.dV, T(1));
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
