// For isa_attention.cpp only: attention of few queries. With one small block there is no reuse that would pay for
// transposing: scores are dot products of rows, and every other product reads and writes rows in place.
#pragma once

#include "framework/kernels/attention_parts.hpp"

namespace surgeon::kernels {
namespace {

constexpr std::int64_t few_queries = 16;

template <class T>
bool few(const AttentionProblem<T>& p) {
  constexpr std::int64_t lanes = Lanes<T>::count;
  return p.Tq <= few_queries && p.Tk <= block && p.d_k % lanes == 0 && p.d_v % lanes == 0;
}

// y[j, i] = x1[j] . x2[i] * factor for rows of `inner` numbers, a whole number of batches. One batch of products at a
// time: as many sums as lanes, added up by transposing them.
template <class T>
void dot_products(std::int64_t rows1, const T* x1, std::int64_t row1, std::int64_t rows2, const T* x2,
                  std::int64_t row2, std::int64_t inner, T factor, T* y, std::int64_t ldy) {
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
        for (std::int64_t n = 0; n < std::min<std::int64_t>(N, rows2 - i); ++n)
          y[(j + m) * ldy + i + n] = found[m * N + n];
    }
}

// All keys at once, unless none is seen: then false.
template <class T>
bool whole_run(const AttentionProblem<T>& p, const HeadPiece& piece, Run& run) {
  using Kind = Visibility::Kind;
  const Kind kind = p.visibility ? p.visibility->kind(piece.batch, piece.head, 0, 0) : Kind::all;
  run = {0, p.Tk, 0, padded<T>(p.Tq), kind == Kind::some ? p.visibility->words(piece.batch, piece.head, 0) : nullptr};
  return kind != Kind::none;
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
  Run run;
  if (!whole_run(p, piece, run)) {
    std::fill_n(largest, p.Tq, T(0));
    std::fill_n(inverse_sum, p.Tq, T(0));
    for (std::int64_t q = 0; q < p.Tq; ++q) std::fill_n(O.at(b, h) + q * O.row, p.d_v, T(0));
    return;
  }
  alignas(64) T scores[block * few_queries] = {};
  dot_products(run.size, p.K.at(b, h), p.K.row, p.Tq, p.Q.at(b, h), p.Q.row, p.d_k, factors.query, scores, width);
  Online<T> softmax;
  softmax.start(width);
  softmax.take(scores, width, run, Exponential<T>(factors.exponent));
  T inverse[few_queries] = {};
  for (std::int64_t q = 0; q < p.Tq; ++q) {
    inverse_sum[q] = inverse[q] = softmax.sum[q] == 0 ? T(0) : 1 / softmax.sum[q];
    largest[q] = softmax.sum[q] == 0 ? T(0) : softmax.largest[q];
  }
  for (std::int64_t k = 0; k < run.size; ++k)
    for (std::int64_t i = 0; i < width; i += lanes)
      store(scores + k * width + i, load(scores + k * width + i) * load(inverse + i));
  few_product(true, run, p.Tq, width, scores, p.V.at(b, h), p.V.row, p.d_v, O.at(b, h), O.row);
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
  Run run;
  const bool seen = whole_run(p, piece, run);
  alignas(64) T scores[block * few_queries] = {}, products[block * few_queries] = {};
  if (seen) {
    dot_products(run.size, K, p.K.row, p.Tq, Q, p.Q.row, p.d_k, factors.query, scores, width);
    dot_products(run.size, V, p.V.row, p.Tq, dO, g.dO.row, p.d_v, T(1), products, width);
    const T* statistics = g.statistics + (b * p.heads + h) * p.Tq;
    weigh_few(p, run, width, statistics, Exponential<T>(factors.exponent), scores, products);
  }
  const auto into = [&](const HeadsView<T>& x, std::int64_t rows, bool by_query, const T* weights, const T* from,
                        std::int64_t row, std::int64_t columns) {
    if (!x.data) return;
    if (seen) return few_product(by_query, run, p.Tq, width, weights, from, row, columns, x.at(b, h), x.row);
    for (std::int64_t i = 0; i < rows; ++i) std::fill_n(x.at(b, h) + i * x.row, columns, T(0));
  };
  into(g.dQ, p.Tq, true, products, K, p.K.row, p.d_k);
  into(g.dK, p.Tk, false, products, Q, p.Q.row, p.d_k);
  into(g.dV, p.Tk, false, scores, dO, g.dO.row, p.d_v);
}

}  // namespace
}  // namespace surgeon::kernels
