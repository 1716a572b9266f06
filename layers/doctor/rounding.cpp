#include "layers/doctor/rounding.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace surgeon::detail {

Tensor times_transposed(const Tensor& a, const Tensor& b) { return matmul(a, b, {.transpose_b = true}); }
Tensor transposed_times(const Tensor& a, const Tensor& b) { return matmul(a, b, {.transpose_a = true}); }
Tensor row_sums(const Tensor& x) { return sum(x, Over{{-1}, true}); }
Tensor column_sums(const Tensor& x) { return sum(x, Over{{0}, true}); }

// ---- Formats -------------------------------------------------------------------------------------------------------
namespace {

// Bits of significand in use, and the power of two of the last of them, over all numbers of a tensor.
struct Digits {
  int most = 0, last = 1024;
};

Digits digits_of(const Tensor& x) {
  Digits d;
  const Tensor wide = x.to(Dtype::float64);
  for (double v : wide.values<double>()) {
    if (v == 0 || !std::isfinite(v)) continue;
    int exponent = 0;
    const auto significand = std::uint64_t(std::ldexp(std::abs(std::frexp(v, &exponent)), 53));
    const int bits = 53 - std::countr_zero(significand);
    d.most = std::max(d.most, bits);
    d.last = std::min(d.last, exponent - bits);
  }
  return d;
}

// 0 when there are too few digits to tell.
double unit_of(const Digits& d) {
  if (d.most <= 4) return 0;
  return std::ldexp(1.0, d.most <= 8 ? -8 : d.most <= 11 ? -11 : d.most <= 24 ? -24 : -53);
}

}   // namespace

// A format's numbers are all multiples of its smallest one: so are those of each gradient, whatever scale they were
// multiplied by. Float16 is the format in question, whose smallest number is 2^-24.
Format format_of(const Specimen& s, int bits) {
  const double own = s.Q.dtype() == Dtype::float64 ? 0x1p-53 : 0x1p-24;
  Format f{.u = own, .summed = own, .smallest = own < 0x1p-24 ? 0x1p-1022 : 0x1p-126};
  int last = -24;
  for (auto part : {&Specimen::Q, &Specimen::K, &Specimen::V, &Specimen::output, &Specimen::weights})
    if ((s.*part).defined()) f.u = std::max(f.u, unit_of(digits_of(s.*part)));
  for (auto part : {&Specimen::dO, &Specimen::dP, &Specimen::dS, &Specimen::dQ, &Specimen::dK, &Specimen::dV})
    if ((s.*part).defined()) {
      const Digits d = digits_of(s.*part);
      f.u = std::max(f.u, unit_of(d));
      last = std::min(last, d.last);
    }
  if (bits > 0) f.u = std::max(f.u, std::ldexp(1.0, -bits));
  f.summed = std::min(f.u, 0x1p-24);
  if (f.u > 0x1p-53) f.smallest = 0x1p-126;
  if (f.u > 0x1p-24) f.smallest = std::max(f.smallest, std::ldexp(1.0, last));
  return f;
}

// ---- Errors, number by number --------------------------------------------------------------------------------------
namespace {

double longest_sum(const Head& h) {
  return double(std::max({h.s.Q.shape(0), h.s.K.shape(0), h.s.Q.shape(1), h.s.V.shape(1)}));
}
double step_of_sums(const Head& h) { return (8 + 4 * std::sqrt(longest_sum(h))) * h.format.summed; }

// Between two quantities of the chain at most four numbers are rounded to a half format: the scaled query, the score,
// the score with its bias, the weight. Sums of bfloat16 are kept in bfloat16 by PyTorch's products on a CPU (1.13). The
// likely error is less than half of the largest.
double step_of(const Head& h, Errors errors) {
  if (errors == Errors::shared || h.format.u <= h.format.summed) return step_of_sums(h);
  const double rounded = 4 + (h.format.u == 0x1p-8 ? std::sqrt(longest_sum(h)) : 0);
  return (errors == Errors::likely ? rounded / 2 : rounded) * h.format.u + step_of_sums(h);
}

// [Tq, Tk]: the absolute values behind each score; likely: in the mean square.
Tensor behind_scores(const Head& h, Errors errors) {
  const double c = std::abs(h.factor);
  Tensor all = times_transposed(abs(h.s.Q), abs(h.s.K)) * c;
  if (errors == Errors::likely)
    all = sqrt(times_transposed(h.s.Q * h.s.Q, h.s.K * h.s.K)) * c + abs(times_transposed(h.s.Q, h.s.K)) * c;
  if (h.s.bias.defined()) all = all + abs(h.s.bias);
  return h.s.mask.empty() ? all : masked_fill(all, !h.s.mask, 0.0);
}

// exp makes what is added to a score a factor: [Tq, Tk], relative errors of the exponentials.
Tensor off_by(const Head& h, Errors errors) {
  const double step = step_of(h, errors);
  constexpr double enough = 40;   // e^40 times anything that matters is off by all
  return expm1(clamp((1.0 + behind_scores(h, errors)) * step, 0, enough));
}

Tensor off_P(const Head& h, Errors errors) {
  const Tensor off = off_by(h, errors);
  return clamp(h.P * (off + row_sums(h.P * off)), 0, 1) + h.format.smallest;
}

// [Tq, Tk]: the derivative of a capped score by the one before, or nothing without a cap.
Tensor slope_of_cap(const Head& h) {
  if (h.s.soft_cap <= 0) return {};
  const Tensor t = tanh(times_transposed(h.s.Q, h.s.K) * (h.factor / h.s.soft_cap));
  return 1.0 - t * t;
}

}   // namespace

double Head::step() const { return step_of(*this, Errors::worst); }

Chain chain_of(const Head& h) {
  Chain chain{.dP = times_transposed(h.s.dO, h.s.V), .dS = h.s.dS};
  if (chain.dS.empty()) chain.dS = h.P * (chain.dP - row_sums(h.P * chain.dP));
  if (const Tensor slope = slope_of_cap(h); slope.defined()) chain.dS = chain.dS * slope;
  return chain;
}

Reach reach_of(const Head& h, Errors errors) {
  const double step = step_of(h, errors), tiny = h.format.smallest;
  const double c = std::abs(h.factor), several = 2.0 * double(h.group);   // roundings of one gradient
  Reach r{.P = off_P(h, errors)};
  r.O = matmul(r.P + h.P * step, abs(h.s.V)) + tiny;
  if (h.s.dO.empty()) return r;
  const Tensor dP_size = times_transposed(abs(h.s.dO), abs(h.s.V)), delta_size = row_sums(h.P * dP_size);
  const auto [dP, dS] = chain_of(h);
  const Tensor delta = row_sums(h.P * dP);
  r.dP = dP_size * step + tiny;
  const Tensor off_delta = row_sums(r.P * dP_size) + delta_size * step + (row_sums(abs(h.s.dO)) + 1.0) * tiny;
  r.dS = h.P * (r.dP + off_delta + (dP_size + delta_size) * step) + r.P * (abs(dP - delta) + r.dP + off_delta) + tiny;
  if (h.s.soft_cap > 0)   // d tanh'/ds is below 1 / cap
    r.dS = r.dS + (abs(dS) + r.dS) * ((1.0 + behind_scores(h, errors) * (2 / h.s.soft_cap)) * step);
  const Tensor dS_all = r.dS + abs(dS) * step;
  r.dQ = (matmul(dS_all, abs(h.s.K)) * c) + several * tiny;
  r.dK = transposed_times(dS_all, abs(h.s.Q)) * c + (transpose(column_sums(abs(dS)), 0, 1) + 1.0) * (several * tiny);
  r.dV = transposed_times(r.P + h.P * step, abs(h.s.dO)) + several * tiny;
  return r;
}

Tensor row_reach_of_P(const Head& h) {
  const double lost = double(h.s.K.shape(0)) * h.format.smallest;
  return max(behind_scores(h, Errors::worst), Over{{-1}, true}) * step_of_sums(h) + (h.step() + lost);
}

Tensor row_reach_of_dS(const Head& h) {
  const Tensor size = times_transposed(abs(h.s.dO), abs(h.s.V)), delta = row_sums(h.P * size);
  const double lost = double(h.s.K.shape(0)) * h.format.smallest;
  return delta * (2 * h.step() + row_reach_of_P(h)) + (max(size, Over{{-1}, true}) + 1.0) * (2 * lost);
}

}   // namespace surgeon::detail
