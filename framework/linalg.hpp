// Linear algebra through LAPACK, with derivatives: linalg::svd, eigh, solve, inverse, cholesky, slogdet, norm,
// matrix_power. In a namespace of its own, as in NumPy and PyTorch: surgeon::norm and surgeon::singular_values of
// diagnostics.hpp give plain numbers instead.
//   shapes     the last two axes are a matrix, those before them a batch; empty batches and matrices work
//   dtypes     float32 or float64; nothing is promoted
//   gradients  of every order, in Tensor ops
//   errors     std::invalid_argument with one sentence that names the function and the place in the batch. A matrix
//              with nan or infinity is refused, since LAPACK may hang on it; nan in a right side or a gradient comes
//              through.
//   equal singular values or eigenvalues (apart by no more than n * epsilon * the largest): the values and every norm
//              still have first derivatives. Their vectors have none: a gradient that needs one is refused in a sentence
//              with both values, rather than inf or nan. Vectors that the loss does not use need none.
// Formulas: Giles, "Collected matrix derivative results for forward and reverse mode algorithmic differentiation",
// 2008; Townsend, "Differentiating the singular value decomposition", 2016 (svd); Murray, "Differentiation of the
// Cholesky decomposition", arXiv 1602.07527; Seeger et al., "Auto-differentiating linear algebra", arXiv 1710.08717.
#pragma once

#include <cstdint>

#include "framework/tensor.hpp"

namespace surgeon::linalg {

// ---- Decompositions ------------------------------------------------------------------------------------------------
struct SvdResult {
  Tensor U;    // [..., m, k], k = min(m, n): orthonormal columns
  Tensor S;    // [..., k], the largest first
  Tensor Vh;   // [..., k, n]: orthonormal rows
};
// a [..., m, n] = U diag(S) Vh, the thin decomposition. Signs: the largest element of each column of U is positive.
// Gradients through U or Vh also need nonzero S when m and n differ: U's when m > n, Vh's when m < n.
SvdResult svd(const Tensor& a);
// [..., min(m, n)], the largest first; several times faster than svd when only they are wanted. The derivative is 0 at
// one that is exactly 0.
Tensor singular_values(const Tensor& a);

struct EighResult {
  Tensor values;    // [..., n], ascending
  Tensor vectors;   // [..., n, n]: eigenvectors in columns, orthonormal; the largest element of each is positive
};
// Of the symmetric part (a + a^T) / 2 of a [..., n, n]; gradients are symmetric.
EighResult eigh(const Tensor& a);
// L, lower triangular with a positive diagonal, such that L L^T = (a + a^T) / 2, a [..., n, n]. Refuses what is not
// positive definite.
Tensor cholesky(const Tensor& a);

// ---- Systems -------------------------------------------------------------------------------------------------------
// Singular means a pivot of exactly 0; a matrix that is nearly so gives large numbers, as in NumPy.
// x with a x = b: a [..., n, n] and b [..., n, k], or [n], a vector. The batches broadcast.
Tensor solve(const Tensor& a, const Tensor& b);
Tensor inverse(const Tensor& a);
struct SlogdetResult {
  Tensor sign;        // [...]: -1, 0 or 1, with derivative 0
  Tensor logabsdet;   // [...]: ln |det a|; -inf for a singular matrix, which has no gradient (an error)
};
SlogdetResult slogdet(const Tensor& a);
// a a ... a, n times; of the inverse for n < 0; the identity for n = 0.
Tensor matrix_power(const Tensor& a, std::int64_t n);

// ---- Norms ---------------------------------------------------------------------------------------------------------
enum class Norm {
  two, one, infinity,             // of vectors, along the last axis: sqrt(sum x^2), sum |x|, max |x|
  frobenius, spectral, nuclear,   // of matrices: sqrt(sum x^2), the largest singular value, the sum of them all
};
struct NormOptions {
  bool keepdims = false;   // keep the reduced axes, with size 1
};
// Does not overflow where x does not. The norm of nothing is 0; all derivatives at x = 0 are 0. Equal largest |x| share
// the gradient of Norm::infinity; equal largest singular values do not share that of Norm::spectral: the first has it.
Tensor norm(const Tensor& x, Norm kind, const NormOptions& options = {});

}  // namespace surgeon::linalg
