// Measurements of attention and its gradients: plain numbers, computed in float64 from float32 or float64 tensors,
// outside any graph. A row is a slice along the last axis; functions of rows return one number per row, in order.
// std::invalid_argument for other dtypes and for a scalar, which has no rows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "framework/tensor.hpp"

namespace surgeon {

// ---- Rows of weights -----------------------------------------------------------------------------------------------
// -sum p ln p, in nats, with 0 ln 0 = 0. With `inside` > 0 it is -sum p ln(p + inside), a common shortcut in notebooks;
// for a one-hot row that gives about -inside instead of 0.
std::vector<double> entropy(const Tensor& weights, double inside = 0);
std::vector<double> largest(const Tensor& weights);   // the largest weight in each row; nan if the row has one
// The Frobenius norm of the softmax Jacobian J = diag(p) - p p^T at each row p:
//   ||J||^2 = sum p^2 - 2 sum p^3 + (sum p^2)^2
// It is summed without subtractions, so that no digits cancel: a row whose largest weight is all but 1e-100 of the
// total has a norm of about 2e-100. The norm is 0 only for a row that is exactly one-hot or all zeros.
std::vector<double> softmax_jacobian_norm(const Tensor& weights);
// trace J = 1 - sum p^2, with the same care.
std::vector<double> softmax_jacobian_trace(const Tensor& weights);

// ---- Rows of scores ------------------------------------------------------------------------------------------------
// What softmax makes of a row of scores s, with p = softmax(s) and without forming p: digits survive where 1 - p would
// lose them. A row that is -inf throughout has -inf, -inf, 0, 0; one with nan or +inf has nan.
struct ScoreRow {
  double largest = 0;     // max s
  double logsumexp = 0;   // ln sum exp s
  double entropy = 0;     // -sum p ln p
  double jacobian = 0;    // as softmax_jacobian_norm(p)
};
std::vector<ScoreRow> score_rows(const Tensor& scores);

// ---- Norms, dead rows, concentration -------------------------------------------------------------------------------
double norm(const Tensor& x);                      // sqrt(sum x^2) over all elements; linalg::norm has derivatives
std::vector<double> row_norms(const Tensor& x);
double zero_rows(const Tensor& x);                 // the fraction of rows in which every element is exactly 0 or -0
double share_below(std::span<const double> values, double threshold);   // the fraction below; nan for no values
// The share of the sum held by the largest values: `top` is the fraction of the values that count as largest, rounded
// up to a whole number of them. Ten equal values give 0.1. For values >= 0; nan when their sum is 0.
double top_share(std::span<const double> values, double top = 0.1);
// The Gini coefficient of values >= 0: 0 when all are equal, 1 - 1/n when one of n holds everything. nan when their sum
// is 0.
double gini(std::span<const double> values);

// ---- Quantiles -----------------------------------------------------------------------------------------------------
// The q-quantile of values in any order, with linear interpolation between neighbours (NumPy's default). nan when there
// are no values or one of them is nan; std::invalid_argument unless 0 <= q <= 1.
double quantile(std::span<const double> values, double q);
double median(std::span<const double> values);   // quantile(values, 0.5): the mean of the middle two of an even number

// ---- Spectra -------------------------------------------------------------------------------------------------------
// linalg::singular_values of one matrix [m, n], as numbers: min(m, n) of them, the largest first. std::invalid_argument
// for another rank, nan or infinity.
std::vector<double> singular_values(const Tensor& matrix);
// How many singular values exceed rtol times the largest. rtol < 0 means max(m, n) times the epsilon of the matrix's
// dtype, NumPy's default.
std::int64_t matrix_rank(const Tensor& matrix, double rtol = -1);
// exp of the entropy of sigma / sum sigma, from 1 to min(m, n). Roy & Vetterli, "The effective rank", EUSIPCO 2007. 0
// when all are 0.
double effective_rank(std::span<const double> singular_values);

}  // namespace surgeon
