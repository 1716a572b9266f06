// Ways to compute attention: the one that was told, and the known mistakes. Each is a function of Q, K and V that can
// be differentiated, so that weights, output and gradients can be held against what was given.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "layers/doctor.hpp"

namespace surgeon::detail {

struct Attended {
  Tensor weights, output;   // [1, heads, Tq, Tk], [1, heads, Tq, d_v]
};

struct Formula {
  std::string name, sentence, cure;
  double factor = 1, soft_cap = 0;   // of Q K^T
  bool lawful = true;   // softmax over the keys, then the mean of the values: the chain rule's laws hold
  std::function<Attended(const Tensor& Q, const Tensor& K, const Tensor& V)> attend = {};
  bool last_resort = false;   // fits much: to be tried when no other does
};

// Of one sequence, [1, heads, T, d], in float64. The first is the one that was told.
std::vector<Formula> formulas_for(const Specimen& sequence);

}   // namespace surgeon::detail
