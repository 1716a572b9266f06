// The values of linear algebra, outside any graph: each matrix of a batch [..., m, n] through xtensor-blas and LAPACK,
// over the threads. float32 or float64. `op` is named in the error for a matrix that is not finite, is singular, or
// defeats the iteration; shapes were checked by the caller.
#pragma once

#include <cstdint>
#include <string>

#include "framework/tensor.hpp"

namespace surgeon::lapack {

// "the matrix", or "matrix [1, 2] of the batch [3, 4]".
std::string which(const Tensor& a, std::int64_t i);

// The columns of U and V have unit length and come in pairs whose sign is fixed: the largest element of a column of U
// is positive. (LAPACK's own signs differ between versions.)
struct Svd {
  Tensor UV;   // [..., m + n, k]: U above V, k = min(m, n)
  Tensor S;    // [..., k], the largest first
};
Svd svd(const char* op, const Tensor& a);
Tensor singular_values(const char* op, const Tensor& a);

struct Eigh {
  Tensor vectors;   // [..., n, n], in columns; the largest element of each is positive
  Tensor values;    // [..., n], ascending
};
Eigh eigh(const char* op, const Tensor& a);   // a symmetric

Tensor solve(const char* op, const Tensor& a, const Tensor& b);   // a [..., n, n], b [..., n, k], of one batch shape
Tensor inverse(const char* op, const Tensor& a);
Tensor cholesky(const char* op, const Tensor& a);   // a symmetric

struct Slogdet {
  Tensor sign, logabsdet;   // [...]; 0 and -inf for a singular matrix
};
Slogdet slogdet(const char* op, const Tensor& a);

}  // namespace surgeon::lapack
