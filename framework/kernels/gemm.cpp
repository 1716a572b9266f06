// The only file that sees the system's cblas.h.
#include "framework/kernels/gemm.hpp"

#include <cblas.h>

#include <algorithm>
#include <sstream>

#include "framework/kernels/threads.hpp"

namespace surgeon::kernels {

std::string blas_core() { return openblas_get_corename(); }

std::string blas_version() {
  std::istringstream words(openblas_get_config());
  std::string name, version;
  words >> name >> version;
  return name + " " + version;
}

void hold_blas_at_one_thread() {
  static const bool done = (openblas_set_num_threads(1), true);
  (void)done;
}

namespace {

CBLAS_TRANSPOSE flag(bool transpose) { return transpose ? CblasTrans : CblasNoTrans; }

// cblas refuses leading dimensions below 1 and, for empty operands, below the row length.
int leading(std::int64_t ld, std::int64_t row) { return int(std::max<std::int64_t>({ld, row, 1})); }

}  // namespace

void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a,
          std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c, std::int64_t ldc) {
  if (m == 0 || n == 0) return;
  hold_blas_at_one_thread();
  cblas_sgemm(CblasRowMajor, flag(transpose_a), flag(transpose_b), int(m), int(n), int(k), alpha, a,
              leading(lda, transpose_a ? m : k), b, leading(ldb, transpose_b ? k : n), beta, c, leading(ldc, n));
}

void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, double alpha,
          const double* a, std::int64_t lda, const double* b, std::int64_t ldb, double beta, double* c, std::int64_t ldc) {
  if (m == 0 || n == 0) return;
  hold_blas_at_one_thread();
  cblas_dgemm(CblasRowMajor, flag(transpose_a), flag(transpose_b), int(m), int(n), int(k), alpha, a,
              leading(lda, transpose_a ? m : k), b, leading(ldb, transpose_b ? k : n), beta, c, leading(ldc, n));
}

template <class T>
void gemm_parallel(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a,
                   std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) {
  hold_blas_at_one_thread();
  constexpr std::int64_t worth_a_thread = 1 << 18;   // multiply-adds; below, starting the team costs more than it saves
  const bool by_rows = m >= n;
  const std::int64_t per_line = std::max<std::int64_t>(1, k * (by_rows ? n : m));
  parallel_for(by_rows ? m : n, std::max<std::int64_t>(16, worth_a_thread / per_line), [&](auto begin, auto end) {
    if (by_rows)
      gemm(transpose_a, transpose_b, end - begin, n, k, alpha, a + begin * (transpose_a ? 1 : lda), lda, b, ldb, beta,
           c + begin * ldc, ldc);
    else
      gemm(transpose_a, transpose_b, m, end - begin, k, alpha, a, lda, b + begin * (transpose_b ? ldb : 1), ldb, beta,
           c + begin, ldc);
  });
}

template void gemm_parallel(bool, bool, std::int64_t, std::int64_t, std::int64_t, float, const float*, std::int64_t,
                            const float*, std::int64_t, float, float*, std::int64_t);
template void gemm_parallel(bool, bool, std::int64_t, std::int64_t, std::int64_t, double, const double*, std::int64_t,
                            const double*, std::int64_t, double, double*, std::int64_t);

}  // namespace surgeon::kernels
