// The right backward pass, in parts, and how well others explain the gradients given.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "layers/doctor/rounding.hpp"

namespace surgeon::detail {

struct Gradients {
  Tensor dQ, dK, dV;
};

// The right backward pass, in parts that a mistake may replace. All [1, heads, ...]; K and V with a head for each of
// Q's.
struct Pass {
  const Specimen& s;
  double c = 1;
  std::int64_t group = 1;
  Tensor P = {}, K = {}, V = {}, visible = {}, dP = {}, dS = {}, slope = {};

  Tensor delta() const { return row_sums(P * dP); }
  Tensor summed(const Tensor& x) const {   // over the query heads of each key head
    return sum(reshape(x, {1, s.kv_heads(), group, x.shape(2), x.shape(3)}), 2);
  }
  Tensor capped(const Tensor& dS_) const { return slope.defined() ? dS_ * slope : dS_; }
  Gradients with(const Tensor& P_, const Tensor& dS_) const {
    const Tensor d = capped(dS_);
    return {matmul(d, K) * c, summed(matmul(d, s.Q, {.transpose_a = true})) * c,
            summed(matmul(P_, s.dO, {.transpose_a = true}))};
  }
  Gradients with(const Tensor& dS_) const { return with(P, dS_); }
  Gradients right() const { return with(P, dS); }
};

Pass pass_of(const Specimen& sequence, const std::vector<Head>& heads);

struct Judge {
  const Specimen& s;
  Gradients right, likely = {};   // likely: norms of what rounding does, as scalars
  double told = 0;

  // At most 1 where rounding makes the difference likely.
  static double excess(const Tensor& theirs, const Tensor& ours, const Tensor& exact, const Tensor& off);
  double excess(const Gradients& g) const;
};

Judge judge_of(const Pass& pass, const std::vector<Head>& heads);

Finding finding(const std::string& name, const std::string& sentence, const std::string& cure,
                const std::string& evidence);

// Gradients that are the right ones times a number: a scale, a mean, a sign, 0.
std::optional<Finding> multiple(const Pass& pass, const Judge& judge);

}   // namespace surgeon::detail
