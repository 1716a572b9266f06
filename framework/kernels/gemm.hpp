// Matrix products through OpenBLAS, in a file of its own: xtensor-blas brings a cblas.h that clashes with the system's.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

namespace surgeon::kernels {

std::string blas_core();      // the kernel set that OpenBLAS chose
std::string blas_version();   // "OpenBLAS 0.3.21"
// Our own threads do the dividing; OpenBLAS's would fight them. gemm does it by itself, LAPACK's callers must.
void hold_blas_at_one_thread();
// OpenBLAS maps a buffer for each thread that multiplies, and where there is no memory for it, it tries for ever. This
// has it map them now, after a trial: std::bad_alloc when there is no room for those of n threads and their stacks.
void reserve_blas_buffers(int n);
int most_blas_threads() noexcept;   // that may multiply at once: with more, OpenBLAS runs over the end of its tables

enum class Transposed : bool { no, yes };

// A matrix [rows, columns] in memory: element (i, j) is data[i * step + j], or data[j * step + i] when transposed.
template <class T>
struct MatrixView {
  T* data;
  std::int64_t rows, columns;
  std::int64_t step = columns;
  Transposed lies = Transposed::no;
};

template <class T>
MatrixView<T> transposed(const MatrixView<T>& x) {
  return {x.data, x.columns, x.rows, x.step, x.lies == Transposed::no ? Transposed::yes : Transposed::no};
}
template <class T>
MatrixView<T> some_rows(const MatrixView<T>& x, std::int64_t begin, std::int64_t end) {
  return {x.data + begin * (x.lies == Transposed::no ? x.step : 1), end - begin, x.columns, x.step, x.lies};
}
template <class T>
MatrixView<T> some_columns(const MatrixView<T>& x, std::int64_t begin, std::int64_t end) {
  return transposed(some_rows(transposed(x), begin, end));
}

// BLAS counts in int. Longer products are cut into several; a step from row to row cannot be cut: ask steps_fit first.
// Tests lower it.
inline std::atomic<std::int64_t> largest_blas_size = std::numeric_limits<int>::max();
template <class T>
bool steps_fit(const MatrixView<T>& x) {
  const std::int64_t lines = x.lies == Transposed::no ? x.rows : x.columns;
  return lines <= 1 || x.step <= largest_blas_size.load(std::memory_order_relaxed);
}

// C = alpha A B + beta C, with C not transposed; on one thread. beta = 0 overwrites C without reading it; an inner size
// of 0 gives beta C.
template <class T>
void gemm(std::type_identity_t<T> alpha, const MatrixView<const T>& A, const MatrixView<const T>& B,
          std::type_identity_t<T> beta, const MatrixView<T>& C);

// The same for one large product, cut into blocks of rows or columns over the threads.
template <class T>
void gemm_parallel(std::type_identity_t<T> alpha, const MatrixView<const T>& A, const MatrixView<const T>& B,
                   std::type_identity_t<T> beta, const MatrixView<T>& C);

}  // namespace surgeon::kernels
