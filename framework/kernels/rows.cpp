// Row kernels over the threads. Work is cut at places that depend on the shape alone, so that sums come out with the
// same bits for any number of threads.
#include "framework/kernels/rows.hpp"

#include <algorithm>

#include "framework/kernels/pool.hpp"
#include "framework/kernels/threads.hpp"

namespace surgeon::kernels {

template <> const Rows<float>& rows<float>() noexcept {
  return choose(baseline::rows_float, v3::rows_float, v4::rows_float);
}
template <> const Rows<double>& rows<double>() noexcept {
  return choose(baseline::rows_double, v3::rows_double, v4::rows_double);
}

namespace {

constexpr Size grain = 1 << 15;        // elements that are worth a thread
constexpr Size long_row = 1 << 16;     // longer rows are cut into pieces of this
constexpr Size tall_column = 1 << 16;  // elements of a piece of columns
constexpr Size tile = 4096;            // columns at a time: their sums stay in the cache

Size pieces_of(Size n, Size size) { return (n + size - 1) / size; }

// y[row, piece] = f(start of the piece, its length), for rows cut into equally many pieces.
template <class T, class Y, class F>
void over_pieces(const T* x, Size rows, Size cols, Y* y, const F& f) {
  const Size pieces = pieces_of(cols, long_row);
  parallel_for(rows * pieces, 1, [&](Size begin, Size end) {
    for (Size i = begin; i < end; ++i) {
      const Size at = i % pieces * long_row;
      y[i] = f(x + i / pieces * cols + at, std::min(long_row, cols - at));
    }
  });
}

template <class T>
void extreme_rows(const T* x, Size rows, Size cols, T* y, void (*kernel)(const T*, Size, Size, T*)) {
  if (cols <= long_row) {
    return parallel_for(rows, grain / std::max<Size>(cols, 1) + 1,
                        [&](Size begin, Size end) { kernel(x + begin * cols, end - begin, cols, y + begin); });
  }
  const Size pieces = pieces_of(cols, long_row);
  Scratch<T> part(rows * pieces);
  over_pieces(x, rows, cols, part.data(), [&](const T* from, Size n) {
    T found;
    kernel(from, 1, n, &found);
    return found;
  });
  kernel(part.data(), rows, pieces, y);
}

}  // namespace

template <class T>
void sum_rows(const T* x, Size rows, Size cols, T* y) {
  const Rows<T>& kernel = kernels::rows<T>();
  if (cols <= long_row) {
    return parallel_for(rows, grain / std::max<Size>(cols, 1) + 1,
                        [&](Size begin, Size end) { kernel.sum(x + begin * cols, end - begin, cols, y + begin); });
  }
  const Size pieces = pieces_of(cols, long_row);
  Scratch<double> part(rows * pieces);
  over_pieces(x, rows, cols, part.data(), kernel.total);
  for (Size r = 0; r < rows; ++r) y[r] = T(kernels::rows<double>().total(part.data() + r * pieces, pieces));
}

template <class T>
void sum_columns(const T* x, Size batch, Size rows, Size cols, T* y) {
  const Size height = std::max<Size>(64, tall_column / std::max<Size>(cols, 1));
  const Size stacks = std::max<Size>(1, pieces_of(rows, height)), tiles = pieces_of(cols, tile);
  Scratch<double> part(batch * stacks * cols);   // [batch, stacks, cols]
  parallel_for(batch * stacks * tiles, grain / (std::min(height, rows + 1) * std::min(cols, tile) + 1) + 1,
               [&](Size begin, Size end) {
    for (Size i = begin; i < end; ++i) {
      const Size stack = i / tiles, b = stack / stacks, row = stack % stacks * height, col = i % tiles * tile;
      const Size width = std::min(tile, cols - col);
      double* sums = part.data() + stack * cols + col;
      std::fill_n(sums, width, 0.0);
      kernels::rows<T>().add_columns(x + (b * rows + row) * cols + col, std::min(height, rows - row), width, cols,
                                     sums);
    }
  });
  for (Size b = 0; b < batch; ++b) {
    double* sums = part.data() + b * stacks * cols;
    kernels::rows<double>().add_columns(sums + cols, stacks - 1, cols, cols, sums);
    std::transform(sums, sums + cols, y + b * cols, [](double sum) { return T(sum); });
  }
}

template <class T> void max_rows(const T* x, Size rows, Size cols, T* y) {
  extreme_rows(x, rows, cols, y, kernels::rows<T>().max);
}
template <class T> void min_rows(const T* x, Size rows, Size cols, T* y) {
  extreme_rows(x, rows, cols, y, kernels::rows<T>().min);
}

template void sum_rows(const float*, Size, Size, float*);
template void sum_rows(const double*, Size, Size, double*);
template void sum_columns(const float*, Size, Size, Size, float*);
template void sum_columns(const double*, Size, Size, Size, double*);
template void max_rows(const float*, Size, Size, float*);
template void max_rows(const double*, Size, Size, double*);
template void min_rows(const float*, Size, Size, float*);
template void min_rows(const double*, Size, Size, double*);

void transpose(const void* x, Size batch, Size rows, Size cols, Size element_size, void* y) {
  const Transposes& all = choose(baseline::transposes, v3::transposes, v4::transposes);
  const auto kernel = element_size == 1 ? all.transpose1 : element_size == 4 ? all.transpose4 : all.transpose8;
  constexpr Size stripe = 64;   // rows at a time, so that one large matrix is shared by the threads too
  const Size stripes = pieces_of(rows, stripe);
  parallel_for(batch * stripes, grain / (stripe * std::max<Size>(cols, 1)) + 1, [&](Size begin, Size end) {
    for (Size i = begin; i < end; ++i) {
      const Size matrix = i / stripes * rows * cols, row = i % stripes * stripe;
      kernel(static_cast<const char*>(x) + (matrix + row * cols) * element_size, std::min(stripe, rows - row), cols,
             cols, static_cast<char*>(y) + (matrix + row) * element_size, rows);
    }
  });
}

}  // namespace surgeon::kernels
