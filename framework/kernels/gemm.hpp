// Matrix products through OpenBLAS, in a file of its own: xtensor-blas brings a cblas.h that clashes with the system's.
#pragma once

#include <cstdint>
#include <string>

namespace surgeon::kernels {

std::string blas_core();      // the kernel set that OpenBLAS chose
std::string blas_version();   // "OpenBLAS 0.3.21"
// Our own threads do the dividing; OpenBLAS's would fight them. gemm does it by itself, LAPACK's callers must.
void hold_blas_at_one_thread();

// C[m, n] = alpha op(A)[m, k] op(B)[k, n] + beta C, row-major with leading dimensions; one thread.
// beta = 0 overwrites C without reading it; k = 0 gives beta C.
void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a,
          std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c, std::int64_t ldc);
void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, double alpha, const double* a,
          std::int64_t lda, const double* b, std::int64_t ldb, double beta, double* c, std::int64_t ldc);

// The same for one large product: cut into row or column blocks over the threads.
template <class T>
void gemm_parallel(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a,
                   std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc);

}  // namespace surgeon::kernels
