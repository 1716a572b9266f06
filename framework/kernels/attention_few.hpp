// For isa_attention.cpp only: attention of few queries and keys. One small block is used too little to pay for
// transposing it: scores are dot products of rows, and every other product reads and writes rows in place.
#pragma once

#include "framework/kernels/attention_parts.hpp"
#include "framework/kernels/pool.hpp"

namespace surgeon::kernels {
namespace {

constexpr std::int64_t few_queries = 16;

template <class T>
bool few(const AttentionProblem<T>& p) {
  return p.Tq <= few_queries && p.Tk <= block;
}

// The rows of a head in whole batches: in place where they are, otherwise a copy padded with zeros.
template <class T>
struct WholeRows {
  std::int64_t columns;   // a whole number of batches
  Scratch<T> copy;
  const T* data;
  std::int64_t row;

  WholeRows(const T* from, std::int64_t from_row, std::int64_t rows, std::int64_t d)
      : columns(padded<T>(d)), copy(columns == d ? 0 : rows * columns), data(from), row(from_row) {
    if (columns == d) return;
    data = copy.data();
    row = columns;
    for (std::int64_t i = 0; i < rows; ++i)
      std::fill_n(std::copy_n(from + i * from_row, d, copy.data() + i * columns), columns - d, T(0));
  }
};

// y[j, i] = x1[j] . x2[i] * factor, and 0 for i from rows2 up to the width. One batch of products at a time: as many
// sums as lanes, added up by transposing them.
template <class T>
void dot_products(std::int64_t rows1, const WholeRows<T>& x1, std::int64_t rows2, const WholeRows<T>& x2, T factor,
                  T* y, std::int64_t width) {
  constexpr std::int64_t lanes = Lanes<T>::count;
  constexpr int N = lanes >= 16 ? 4 : lanes >= 4 ? 2 : 1, M = int(lanes) / N;
  for (std::int64_t j = 0; j < rows1; j += M)
    for (std::int64_t i = 0; i < rows2; i += N) {
      const T *from1[M], *from2[N];   // past the end the last row again, to be thrown away
      unrolled<M>([&](auto m) { from1[m] = x1.data + std::min(j + m, rows1 - 1) * x1.row; });
      unrolled<N>([&](auto n) { from2[n] = x2.data + std::min(i + n, rows2 - 1) * x2.row; });
      Batch<T> sums[lanes];
      unrolled<lanes>([&](auto l) { sums[l] = Batch<T>(T(0)); });
      for (std::int64_t c = 0; c < x1.columns; c += lanes) {
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
        for (std::int64_t n = 0; n < std::min<std::int64_t>(N, rows2 - i); ++n)
          y[(j + m) * width + i + n] = found[m * N + n];
    }
  for (std::int64_t j = 0; j < rows1; ++j) std::fill_n(y + j * width + rows2, width - rows2, T(0));
}

// The same, but short rows are transposed: adding up the sums would cost more.
template <class T>
void row_products(std::int64_t rows1, const WholeRows<T>& x1, std::int64_t rows2, const WholeRows<T>& x2, T factor,
                  T* y, std::int64_t width) {
  constexpr std::int64_t short_row = 64;
  if (x1.columns > short_row) return dot_products(rows1, x1, rows2, x2, factor, y, width);
  alignas(64) T x2_t[short_row * few_queries];
  transpose(x2.data, x2.row, rows2, x2.columns, x2_t, width, Edge::padded,
            [&](const Batch<T>& v, std::int64_t) { return v * Batch<T>(factor); });
  small_gemm(rows1, width, x1.columns, {x1.data, x1.row, 1}, x2_t, width, y, width, Result::set);
}

// All keys in one run; false when no query sees any.
template <class T>
bool whole_run(const AttentionProblem<T>& p, const HeadPiece& piece, Run& run) {
  using Kind = Visibility::Kind;
  if (p.Tq == 0 || p.Tk == 0) return false;   // a Visibility has no blocks then
  const Kind kind = p.visibility ? p.visibility->kind(piece.batch, piece.head, 0, 0) : Kind::all;
  run = {0, p.Tk, 0, padded<T>(p.Tq), kind == Kind::some ? p.visibility->words(piece.batch, piece.head, 0) : nullptr};
  return kind != Kind::none;
}

enum class SumOver { keys, queries };

// c[rows, d] = products of weights with whole rows, over what is seen: a row for each query as the sum over keys, or a
// row for each key as the sum over queries.
template <class T>
void few_product(SumOver over, const Run& run, std::int64_t queries, std::int64_t width, const T* weights,
                 const WholeRows<T>& b, std::int64_t d, T* c, std::int64_t ldc) {
  const bool by_query = over == SumOver::keys;
  const std::int64_t rows = by_query ? queries : run.size, inner = by_query ? run.size : queries;
  const Strided<T> a = by_query ? Strided<T>{weights, 1, width} : Strided<T>{weights, width, 1};
  if (run.words && !finite(b.data, inner, d, b.row))
    return seen_gemm(rows, d, inner, a, b.data, b.row, c, ldc, Result::set,
                     [&](auto i, auto, auto k) { return by_query ? bit(run.words[k], i) : bit(run.words[i], k); });
  if (b.columns == d) return small_gemm(rows, d, inner, a, b.data, b.row, c, ldc, Result::set);
  Scratch<T> whole(rows * b.columns);
  small_gemm(rows, b.columns, inner, a, b.data, b.row, whole.data(), b.columns, Result::set);
  for (std::int64_t i = 0; i < rows; ++i) std::copy_n(whole.data() + i * b.columns, d, c + i * ldc);
}

template <class T>
void forward_few(const AttentionProblem<T>& p, HeadsView<T> O, T* statistics, HeadPiece piece) {
  constexpr std::int64_t lanes = Lanes<T>::count;
  const Factors<T> factors(p.scale);
  const std::int64_t width = padded<T>(p.Tq), b = piece.batch, h = piece.head;
  T* largest = statistics + (b * p.heads + h) * p.Tq;
  T* inverse_sum = largest + p.batch * p.heads * p.Tq;
  Run run;
  if (!whole_run(p, piece, run)) {
    std::fill_n(largest, p.Tq, T(0));
    std::fill_n(inverse_sum, p.Tq, T(0));
    for (std::int64_t q = 0; q < p.Tq; ++q) std::fill_n(O.at(b, h) + q * O.row, p.d_v, T(0));
    return;
  }
  const WholeRows<T> Q(p.Q.at(b, h), p.Q.row, p.Tq, p.d_k), K(p.K.at(b, h), p.K.row, p.Tk, p.d_k);
  const WholeRows<T> V(p.V.at(b, h), p.V.row, p.Tk, p.d_v);
  alignas(64) T scores[block * few_queries];
  row_products(run.size, K, p.Tq, Q, factors.query, scores, width);
  Online<T> softmax;
  softmax.start(width);
  softmax.take(scores, width, run, Exponential<T>(factors.exponent));
  T inverse[few_queries] = {};
  softmax.finish(p.Tq, largest, inverse);
  std::copy_n(inverse, p.Tq, inverse_sum);
  for (std::int64_t k = 0; k < run.size; ++k)
    for (std::int64_t i = 0; i < width; i += lanes)
      store(scores + k * width + i, load(scores + k * width + i) * load(inverse + i));
  few_product(SumOver::keys, run, p.Tq, width, scores, V, p.d_v, O.at(b, h), O.row);
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
  Run run;
  if (!whole_run(p, piece, run)) {
    const auto clear = [&](const HeadsView<T>& x, std::int64_t rows, std::int64_t d) {
      for (std::int64_t i = 0; x.data && i < rows; ++i) std::fill_n(x.at(b, h) + i * x.row, d, T(0));
    };
    clear(g.dQ, p.Tq, p.d_k);
    clear(g.dK, p.Tk, p.d_k);
    return clear(g.dV, p.Tk, p.d_v);
  }
  const WholeRows<T> Q(p.Q.at(b, h), p.Q.row, p.Tq, p.d_k), K(p.K.at(b, h), p.K.row, p.Tk, p.d_k);
  const WholeRows<T> V(p.V.at(b, h), p.V.row, p.Tk, p.d_v), dO(g.dO.at(b, h), g.dO.row, p.Tq, p.d_v);
  alignas(64) T scores[block * few_queries], products[block * few_queries];
  row_products(run.size, K, p.Tq, Q, factors.query, scores, width);
  row_products(run.size, V, p.Tq, dO, T(1), products, width);
  const T* statistics = g.statistics + (b * p.heads + h) * p.Tq;
  weigh_few(p, run, width, statistics, Exponential<T>(factors.exponent), scores, products);
  if (g.dQ.data) few_product(SumOver::keys, run, p.Tq, width, products, K, p.d_k, g.dQ.at(b, h), g.dQ.row);
  if (g.dK.data) few_product(SumOver::queries, run, p.Tq, width, products, Q, p.d_k, g.dK.at(b, h), g.dK.row);
  if (g.dV.data) few_product(SumOver::queries, run, p.Tq, width, scores, dO, p.d_v, g.dV.at(b, h), g.dV.row);
}

}  // namespace
}  // namespace surgeon::kernels
