// Questions about numbers, answered with booleans.
#include <limits>

#include "framework/errors.hpp"
#include "framework/ops.hpp"
#include "framework/ops/common.hpp"

namespace surgeon {

using namespace ops;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();

void require_boolean(const char* op, const Tensor& x) {
  require_value(op, x);
  require(x.dtype() == Dtype::boolean, op, ": needs a boolean tensor, not ", x.dtype());
}

Tensor as_number(const Tensor& mask) { return mask.to(Dtype::int64); }

}  // namespace

Tensor isinf(const Tensor& x) {
  require_numbers("isinf", x);
  return is_floating(x.dtype()) ? abs(stop_gradient(x)) == inf : x != x;
}

Tensor isfinite(const Tensor& x) {
  require_numbers("isfinite", x);
  return is_floating(x.dtype()) ? abs(stop_gradient(x)) < inf : x == x;
}

Tensor operator&&(const Tensor& a, const Tensor& b) {
  require_boolean("&&", a);
  require_boolean("&&", b);
  return as_number(a) * as_number(b) != 0.0;
}

Tensor operator||(const Tensor& a, const Tensor& b) {
  require_boolean("||", a);
  require_boolean("||", b);
  return as_number(a) + as_number(b) != 0.0;
}

Tensor any(const Tensor& x, const Over& over) {
  require_value("any", x);
  return sum(x != 0.0, over) != 0.0;
}

Tensor all(const Tensor& x, const Over& over) {
  require_value("all", x);
  return sum(x == 0.0, over) == 0.0;
}

}  // namespace surgeon
