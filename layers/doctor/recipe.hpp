// Attention by parts, each of which a mistake may replace. All of one sequence, [1, heads, T, d].
#pragma once

#include "layers/doctor/formulas.hpp"

namespace surgeon::detail {

// What becomes of a score that the mask hides.
enum class Hidden { minus_infinity, filled, added, weight_zeroed };
enum class Weigh { softmax, off_by_one, sigmoid, twice, not_at_all };

struct Recipe {
  double factor = 1;
  Tensor visible = {}, bias = {};
  double soft_cap = 0;
  Hidden hidden = Hidden::minus_infinity;
  double fill = 0;
  Weigh weigh = Weigh::softmax;
  int axis = -1;
};

// K or V with a head for each of Q's; in_turn: head h reads h mod kv_heads instead of h / group.
enum class Groups { in_order, in_turn };
Tensor shared(const Tensor& x, std::int64_t heads, Groups groups = Groups::in_order);

Tensor products(const Tensor& Q, const Tensor& K);   // Q K^T
Tensor weights_of(Tensor products, const Recipe& recipe);
Attended applied(const Tensor& weights, const Tensor& V);

Tensor split_wrongly(const Tensor& x);
Tensor joined_wrongly(const Tensor& x);
Tensor interleaved(const Tensor& x);
Tensor one_more(const Tensor& visible);
Tensor one_less(const Tensor& visible);
double fitted_factor(const Specimen& sequence, const Recipe& told);

}   // namespace surgeon::detail
