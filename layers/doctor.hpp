// The doctor: what is wrong with an attention that somebody else computed. First laws, which hold for any correct
// softmax attention and its gradient whatever the weights: a broken one proves a bug. Then diagnoses, which find the
// mistake that explains the numbers.
//
// Thresholds. The unit roundoff u = 2^-p is read off the numbers (p = 53, 24, 11 or 8 bits of significand are in use;
// the coarsest tensor counts). A sum of n products, rounded as it is formed, is off by at most about sqrt(n) u times
// the sum of their absolute values S (Higham & Mary 2019, SIAM J. Sci. Comput. 41(5)). A weight is off
// by a factor 1 + u sigma, sigma being the sum of absolute products behind the row's scores, because exp turns absolute
// errors of a score into relative ones. Both together: a law may be missed by (8 + 4 sqrt(n)) (1 + sigma) u S, in which
// S is computed with absolute values throughout: |dO| |V|^T for dP, P (|dO| |V|^T + delta) for dS, and so on along the
// chain. To that comes what numbers lose that are too small for the format. What a law may be missed by is thus larger
// than rounding explains only when something other than rounding is at work.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "layers/specimen.hpp"

namespace surgeon {

struct Finding {
  enum class Kind { broken_law, diagnosis } kind = Kind::broken_law;
  std::string name = {};   // "row sums", "divisor d_model"
  std::string sentence = {};   // the law in words, or what was done wrong
  std::string where = {};   // "layer 0, sequence 0, head 2, query 5"
  double found = 0, expected = 0, allowed = 0;   // of a law: both sides, and how far apart rounding may put them
  double certainty = 1;   // 1: a proof, or the mistake explains every number within rounding
  std::string evidence = {}, cure = {};
};

struct Examination {
  std::vector<Finding> findings = {};   // broken laws first; the surest diagnosis first
  std::vector<std::string> held = {};   // laws that could be checked and hold
  std::vector<std::string> unchecked = {};   // "row sums: needs weights"
  double unit_roundoff = 0;
};

// Memory grows with Tq * Tk of one head for the laws, and of all heads of a sequence for the diagnoses.
// std::invalid_argument when the tensors do not fit together.
Examination examine(const Specimen& specimen);

// The laws, as they are named in findings, with their sentences.
std::vector<std::pair<std::string, std::string>> laws_of_attention();

}  // namespace surgeon
