// The doctor: what is wrong with an attention that somebody else computed. First laws, which hold for any correct
// softmax attention and its gradient whatever the weights: a broken one proves a bug. Then diagnoses, which find the
// mistake that explains the numbers.
//
// Thresholds. The unit roundoff u = 2^-p is read off the numbers (p = 53, 24, 11 or 8 bits of significand are in
// use; the coarsest tensor counts). Running sums are kept in float32 at least, as most frameworks do: one of n
// products is off by about sqrt(n) u_s times the sum S of their absolute values, u_s being at most 2^-24 (Higham &
// Mary 2019, SIAM J. Sci. Comput. 41(5)). In half formats four numbers are rounded on the way from one quantity to
// the next: the scaled query, the score, the score with its bias, the weight; and products of bfloat16 may sum in
// bfloat16, as PyTorch's do on a CPU. Together: (8 + 4 sqrt(n)) u_s + 4 u (bfloat16: (4 + sqrt(n)) u), the step,
// times S. A weight is off by a factor exp(step (1 + sigma)), sigma being the sum of absolute products behind its
// score. Errors are carried along the chain number by number, from P and dP to dS, and on to dQ, dK and dV, with
// absolute values throughout, and to each is added what numbers lose that are too small for the format. Laws that
// hold for any weights whatever (rows sum to 1, gradients cancel, Q^T dQ = (K^T dK)^T) are not charged for errors of
// the weights. For whole tensors, which choose between formulas, the errors of scores count by their likely size,
// the root of a sum of squares. What a law may be missed by is thus larger than rounding explains only when
// something else is at work. A matrix product that rounds its operands (TF32: 11 bits) must be told, since no digits
// of float32 numbers show it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/parameters.hpp"
#include "layers/specimen.hpp"

namespace surgeon {

struct Finding {
  // An observation is true, but of healthy layers too: sharp heads, sinks.
  enum class Kind { broken_law, diagnosis, observation } kind = Kind::broken_law;
  std::string name = {};   // "row sums", "divisor d_model"
  std::string sentence = {};   // the law in words, or what was done wrong
  std::string where = {};   // "layer 0, sequence 0, head 2, query 5"
  double found = 0, expected = 0, allowed = 0;   // of a law: both sides, and how far apart rounding may put them
  double certainty = 1;   // 1: a proof, or the mistake explains every number within rounding
  std::string evidence = {}, cure = {};
};

struct Examination {
  std::vector<Finding> findings = {};   // broken laws first; the surest diagnosis first; empty: healthy
  std::vector<Finding> observations = {};
  std::vector<std::string> held = {};   // laws that could be checked and hold
  std::vector<std::string> unchecked = {};   // "row sums: needs weights"
  double unit_roundoff = 0;
};

// Memory grows with Tq * Tk of one head for the laws, and of all heads of a sequence for the diagnoses.
// bits: of significand in the arithmetic, where it is coarser than its results show; 0: as read off the numbers.
// std::invalid_argument when the tensors do not fit together.
Examination examine(const Specimen& specimen, int bits = 0);

// What is added to all keys changes no weight: the bias of the keys has gradient 0 wherever softmax gets plain products
// (not with rotary positions, a soft cap or QK-norm). What remains is rounding noise, which Adam blows up to steps of
// full size (arXiv 2302.08626). `state` has an optimizer's moments by PyTorch's names, "exp_avg.NAME" and
// "exp_avg_sq.NAME", with anything before them: Optimizer::state(), or all tensors of a checkpoint. A key bias is named
// when its gradients are below a thousandth of the query bias's and its steps above a hundredth of the learning rate.
struct AdamState {
  std::int64_t steps = 0;   // done; 0: enough for the moments to have forgotten their start
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
};
std::vector<Finding> examine_key_biases(const Parameters& state, const AdamState& adam = {});

// The laws, in the order in which they are checked, as they are named in findings.
struct LawOfAttention {
  std::string name, sentence, formula, needs;
};
std::vector<LawOfAttention> laws_of_attention();

}   // namespace surgeon
