// How far rounding may put each number from what exact arithmetic gives. The analysis is in layers/doctor.hpp.
#pragma once

#include <cstdint>

#include "layers/doctor.hpp"

namespace surgeon::detail {

// The numbers as they were stored and summed, read off their digits.
struct Format {
  double u = 0;   // unit roundoff of what is stored: 2^-53, 2^-24, 2^-11 or 2^-8
  double summed = 0;   // unit roundoff of running sums: float32's where u is coarser (but see step)
  double smallest = 0;   // what a number may lose that is too small for the format
};
Format format_of(const Specimen& specimen, int bits);   // bits: at most so many, 0: all that there are

// One key head of one sequence, in float64, with the query heads that read it: their queries lie one after another, so
// that a group of heads obeys the laws of one head with that many queries. P: the weights given, or those of the
// formula that explains the rest.
struct Head {
  Specimen s;   // tensors 2-D, empty where not given; the mask has all that hides
  std::int64_t first = 0, group = 1;   // query heads
  Tensor P = {};   // [group * Tq, Tk]
  double factor = 1;   // c: scores = c Q K^T
  Format format = {};
  bool explained = false;   // whether P and factor are known to be those that were used

  double step() const;   // what a sum of products may be off by, in units of its absolute values
};

Tensor times_transposed(const Tensor& a, const Tensor& b);
Tensor transposed_times(const Tensor& a, const Tensor& b);
Tensor row_sums(const Tensor& x);   // [n, 1]
Tensor column_sums(const Tensor& x);   // [1, n]

// The gradients of weights and scores, exactly, for weights P; a soft cap's slope is in dS.
struct Chain {
  Tensor dP, dS;
};
Chain chain_of(const Head& head);

// Scores: errors at their worst, all of one sign; likely ones, of random signs, for norms of whole tensors; or those
// that are left where both sides of a law come from the same stored numbers, which only summing makes different.
enum class Errors { worst, likely, shared };
// How far off each number may be; gradients are empty without dO.
struct Reach {
  Tensor P = {}, O = {}, dP = {}, dS = {}, dQ = {}, dK = {}, dV = {};
};
Reach reach_of(const Head& head, Errors errors);

// [Tq, 1]: how far from 0 rounding may put the sum of a row of dS, and from 1 that of a row of P. What errs in the
// scores errs on neither: softmax divides by the sum of whatever it has.
Tensor row_reach_of_dS(const Head& head);
Tensor row_reach_of_P(const Head& head);

}   // namespace surgeon::detail
