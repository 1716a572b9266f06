// Products along an axis, by multiplying neighbours, then neighbours of neighbours: log2(n) steps, each an op, so that
// derivatives are right where numbers are 0 too (a rule that divides by x is not).
#include <algorithm>
#include <numeric>

#include "framework/errors.hpp"
#include "framework/ops.hpp"
#include "framework/ops/common.hpp"
#include "framework/ops/reduced.hpp"

namespace surgeon {

using namespace ops;

Tensor cumprod(const Tensor& x, int axis) {
  require_numbers("cumprod", x);
  const int along = checked_axis("cumprod", axis, x.rank());
  const Size n = x.shape(along);
  Tensor y = x;   // y[i] is the product of the last `done` numbers up to i
  for (Size done = 1; done < n; done *= 2)
    y = concat({slice(y, along, 0, done), slice(y, along, done) * slice(y, along, 0, n - done)}, along);
  return y;
}

namespace {

// [rows, n] -> [rows]
Tensor row_products(Tensor x) {
  for (Size n = x.shape(1); n > 1; n = x.shape(1)) {
    const Size half = n / 2;
    const Tensor pairs = slice(x, 1, 0, half) * slice(x, 1, half, 2 * half);
    x = n % 2 ? concat({pairs, slice(x, 1, n - 1)}, 1) : pairs;
  }
  return x.shape(1) == 0 ? full({x.shape(0)}, 1.0, x.dtype()) : reshape(x, {x.shape(0)});
}

}  // namespace

Tensor prod(const Tensor& x, const Over& over) {
  require_numbers("prod", x);
  const Reduced reduced("prod", x, over);
  return reshape(row_products(reshape(reduced.as_rows(x), {count(reduced.shape), reduced.n})), reduced.shape);
}

Tensor cumsum(const Tensor& x, int axis, const Cumulate& how) {
  require_value("cumsum", x);
  const int along = checked_axis("cumsum", axis, x.rank());
  const Tensor forward = how.reverse ? flip(x, {along}) : x;
  Tensor y = cumsum(forward, along);
  if (how.exclusive && x.shape(along) > 0) {   // moved by one place: subtracting x would round
    Shape one = x.shape();
    one[std::size_t(along)] = 1;
    y = concat({zeros(one, y.dtype()), slice(y, along, 0, -1)}, along);
  }
  return how.reverse ? flip(y, {along}) : y;
}

}  // namespace surgeon
