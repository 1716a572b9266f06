// Measurements of attention and of its gradients: plain numbers, in float64 whatever the tensor is, outside any graph.
// "Row" is a slice along the last axis; functions of rows give one number per row, in order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "framework/tensor.hpp"

namespace surgeon {

// ---- Rows of weights -----------------------------------------------------------------------------------------------
// -sum p ln p in nats, with 0 ln 0 = 0. With `inside` > 0: -sum p ln(p + inside), as notebooks write it, which is
// biased by about -inside for a one-hot row.
std::vector<double> entropy(const Tensor& weights, double inside = 0);
std::vector<double> largest(const Tensor& weights);
// The Frobenius norm of softmax's Jacobian at the row p, J = diag(p) - p p^T:
//   ||J||^2 = sum p^2 - 2 sum p^3 + (sum p^2)^2, summed here in a form without differences: a row whose winner has
// all but 1e-100 of the weight has a norm of about 2e-100, not 0. 0 only for a row that is exactly one-hot or all 0.
std::vector<double> softmax_jacobian_norm(const Tensor& weights);
// trace J = 1 - sum p^2, the same way.
std::vector<double> softmax_jacobian_trace(const Tensor& weights);

// ---- Norms, dead rows, concentration -------------------------------------------------------------------------------
double norm(const Tensor& x);                      // sqrt(sum x^2) over all elements
std::vector<double> row_norms(const Tensor& x);
double zero_rows(const Tensor& x);                 // share of rows whose every element is exactly 0, of -0 too
double share_below(std::span<const double> values, double threshold);   // nan for no values, as those below
// Of values >= 0: what the largest `top` of them (rounded up to a whole number of values) have of the sum; 0.1 when all
// are equal and there are ten. nan when the sum is 0.
double top_share(std::span<const double> values, double top = 0.1);
// Gini's coefficient of values >= 0: 0 when all are equal, 1 - 1/n when one has everything. nan when the sum is 0.
double gini(std::span<const double> values);

// ---- Quantiles -----------------------------------------------------------------------------------------------------
// The q-quantile, 0 <= q <= 1, of values in any order; between two of them by linear interpolation, as NumPy does it.
// nan when there are no values or one of them is nan; std::invalid_argument when q is not between 0 and 1.
double quantile(std::span<const double> values, double q);
double median(std::span<const double> values);   // quantile(values, 0.5): of an even number, the mean of the middle two

// ---- Spectra (LAPACK) ----------------------------------------------------------------------------------------------
// Of a matrix [m, n]: min(m, n) numbers, the largest first. std::invalid_argument for another rank, nan or infinity.
std::vector<double> singular_values(const Tensor& matrix);
// How many of them exceed rtol times the largest; rtol < 0: max(m, n) * epsilon of the matrix' dtype, as NumPy has it.
std::int64_t matrix_rank(const Tensor& matrix, double rtol = -1);
// exp of the entropy of sigma / sum sigma: 1 .. min(m, n). Roy & Vetterli, "The effective rank", EUSIPCO 2007.
double effective_rank(std::span<const double> singular_values);

}  // namespace surgeon
