// Which way of computing attention, and its gradients, explains the numbers.
#pragma once

#include <optional>
#include <vector>

#include "layers/doctor/formulas.hpp"
#include "layers/doctor/rounding.hpp"

namespace surgeon::detail {

// How far numbers are from those of a formula: of whole tensors, |theirs - ours|. The worst of the tensors compared.
struct Misfit {
  double relative = -1;   // to the size of theirs
  double excess = -1;   // to what rounding makes likely: at most 1 when the formula explains them; -1: nothing compared
};

struct Explanation {
  std::vector<Formula> formulas = {};
  std::vector<Misfit> misfits = {};   // of as many formulas as had to be tried
  std::size_t best = 0;   // 0 is what was told
  Tensor weights = {};   // of the formula taken, [1, heads, Tq, Tk]
  bool forward = false;   // whether weights or output were there to compare

  bool fits(std::size_t i) const;
  bool explains() const { return fits(best); }
  const Formula& taken() const { return formulas[explains() ? best : 0]; }
};

// Of one sequence, [1, heads, T, d], in float64. Weights and output are compared; without them the gradients.
Explanation explain(const Specimen& sequence, const Format& format);

// A mistake that explains the numbers within rounding, or several that do; or the news that none does.
std::optional<Finding> mistake_of(const Explanation& e, bool dropout);

// When nothing explains the weights: the keys, fewer than half, at which alone they are not those of Q and K.
std::optional<Finding> odd_keys(const Specimen& sequence, const std::vector<Head>& heads, const Explanation& e);

Head head_of(const Specimen& sequence, std::int64_t kv_head, const Formula& formula, const Tensor& weights,
             const Format& format);

}   // namespace surgeon::detail
