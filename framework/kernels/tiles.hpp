// For the isa_*.cpp files only: small matrix products held in registers, and transposes. One operand is read number by
// number (any steps), the other in whole batches, so nothing is packed. OpenBLAS loses its time packing at this size.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "framework/kernels/simd.hpp"

namespace surgeon::kernels {
namespace {

// Operand a of a product: a(i, k) = data[i * row + k * inner].
template <class T>
struct Strided {
  const T* data;
  std::int64_t row, inner;
};

enum class Result : bool { set, add };      // what becomes of the numbers where a product goes
enum class Edge : bool { exact, padded };   // whether rows end where their numbers do, or with a whole batch

// Accumulators that fit the registers beside a row of b: 6 x 4 of 32, or 6 x 2 of 16.
#ifdef __AVX512F__
constexpr int tile_rows = 6, tile_columns = 4;
#else
constexpr int tile_rows = 6, tile_columns = 2;
#endif

// body(0) ... body(N - 1), written out: a loop over registers must be gone before the compiler sees an array in it.
template <int N, class Body>
void unrolled(const Body& body) {
  [&]<int... I>(std::integer_sequence<int, I...>) {
    (body(std::integral_constant<int, I>()), ...);
  }(std::make_integer_sequence<int, N>());
}

// C[R, W batches] = A B, or C + A B with Result::add; the sum over k from 0 in rising order, whatever the tile.
template <int R, int W, class T>
void tile(std::int64_t inner, Strided<T> a, const T* b, std::int64_t ldb, T* c, std::int64_t ldc, Result result) {
  constexpr std::int64_t lanes = Lanes<T>::count;
  Batch<T> sum[R * W];
  unrolled<R * W>([&](auto i) { sum[i] = Batch<T>(T(0)); });
  for (std::int64_t k = 0; k < inner; ++k) {
    Batch<T> row[W];
    unrolled<W>([&](auto w) { row[w] = load(b + w * lanes); });
    unrolled<R>([&](auto r) {
      const Batch<T> factor(a.data[r * a.row]);
      unrolled<W>([&](auto w) { sum[r * W + w] = xsimd::fma(factor, row[w], sum[r * W + w]); });
    });
    b += ldb;
    a.data += a.inner;
  }
  unrolled<R * W>([&](auto i) {
    T* to = c + i / W * ldc + i % W * lanes;
    store(to, result == Result::add ? load(to) + sum[i] : sum[i]);
  });
}

template <int W, class T>
void tile_column(std::int64_t rows, std::int64_t inner, Strided<T> a, const T* b, std::int64_t ldb, T* c,
                 std::int64_t ldc, Result result) {
  for (; rows >= tile_rows; rows -= tile_rows) {
    tile<tile_rows, W>(inner, a, b, ldb, c, ldc, result);
    a.data += tile_rows * a.row;
    c += tile_rows * ldc;
  }
  unrolled<tile_rows>([&](auto r) {
    if constexpr (r > 0)
      if (rows == r) tile<r, W>(inner, a, b, ldb, c, ldc, result);
  });
}

// C[rows, columns] = A[rows, inner] B[inner, columns], or C + A B with Result::add; columns a multiple of the lanes.
template <class T>
void small_gemm(std::int64_t rows, std::int64_t columns, std::int64_t inner, Strided<T> a, const T* b, std::int64_t ldb,
                T* c, std::int64_t ldc, Result result) {
  constexpr std::int64_t lanes = Lanes<T>::count, wide = tile_columns * lanes;
  std::int64_t j = 0;
  for (; j + wide <= columns; j += wide) tile_column<tile_columns>(rows, inner, a, b + j, ldb, c + j, ldc, result);
  unrolled<tile_columns>([&](auto w) {
    if constexpr (w > 0)
      if (columns - j == w * lanes) tile_column<w>(rows, inner, a, b + j, ldb, c + j, ldc, result);
  });
}

// lanes x lanes numbers, in place: each pass zips row i with row i + lanes/2, and log2(lanes) passes transpose.
template <class T, std::size_t... I>
void transpose_tile(Batch<T>* rows, std::index_sequence<I...>) {
  constexpr int lanes = sizeof...(I);
  for (int passes = lanes; passes > 1; passes /= 2) {
    Batch<T> next[lanes];
    for (int i = 0; i < lanes / 2; ++i) {
      const auto low = rows[i].data, high = rows[i + lanes / 2].data;
      next[2 * i] = Batch<T>(__builtin_shufflevector(low, high, (int(I) / 2 + int(I) % 2 * lanes)...));
      next[2 * i + 1] = Batch<T>(__builtin_shufflevector(low, high, (lanes / 2 + int(I) / 2 + int(I) % 2 * lanes)...));
    }
    for (int i = 0; i < lanes; ++i) rows[i] = next[i];
  }
}

// y[j, i] = f(x[i, j], j), for i < rows, j < columns; f takes and gives a batch along i.
// Edge::padded fills up y's rows to whole batches, as if x were 0 there.
template <class T, class F>
void transpose(const T* x, std::int64_t ldx, std::int64_t rows, std::int64_t columns, T* y, std::int64_t ldy, Edge edge,
               const F& f) {
  constexpr std::int64_t lanes = Lanes<T>::count;
  if constexpr (lanes == 1) {
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < columns; ++j) y[j * ldy + i] = f(x[i * ldx + j], j);
  } else {
    for (std::int64_t j = 0; j < columns; j += lanes)
      for (std::int64_t i = 0; i < rows; i += lanes) {
        const std::int64_t m = std::min(lanes, rows - i), n = std::min(lanes, columns - j);
        Batch<T> block[lanes];
        T part[lanes] = {};
        for (std::int64_t r = 0; r < lanes; ++r) {
          const T* from = x + (i + r) * ldx + j;
          if (r < m && n < lanes) std::copy_n(from, n, part);
          block[r] = r >= m ? Batch<T>(T(0)) : load(n < lanes ? part : from);
        }
        transpose_tile<T>(block, std::make_index_sequence<std::size_t(lanes)>());
        for (std::int64_t r = 0; r < n; ++r) {
          T* to = y + (j + r) * ldy + i;
          const Batch<T> value = f(block[r], j + r);
          if (m == lanes || edge == Edge::padded) {
            store(to, value);
          } else {
            store(part, value);
            std::copy_n(part, m, to);
          }
        }
      }
  }
}

}  // namespace
}  // namespace surgeon::kernels
