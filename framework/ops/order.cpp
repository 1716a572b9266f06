// Sorting, and what it gives: topk, argsort. The values are gathered, so their gradient is gather's.
#include <algorithm>
#include <numeric>

#include "framework/autograd.hpp"
#include "framework/detail/node.hpp"
#include "framework/errors.hpp"
#include "framework/ops.hpp"
#include "framework/ops/common.hpp"

namespace surgeon {

using detail::data;
using detail::fresh;
using detail::make;
using namespace ops;

namespace {

// nan counts as the largest, as in NumPy and PyTorch.
template <class T>
bool before(T a, T b, Order order) {
  const bool a_nan = a != a, b_nan = b != b;
  if (order == Order::ascending) return a_nan ? false : b_nan || a < b;
  return b_nan ? false : a_nan || a > b;
}

// [rows, n] -> the places of the first k of each row in order. Equals keep their order.
Tensor first_places(const Tensor& x, Size k, Order order) {
  const Size n = columns(x), rows = rows_of(x);
  Tensor places = make({rows, k}, Dtype::int64);
  detail::visit_dtype(x.dtype(), [&]<class T>(T) {
    std::vector<std::int64_t> at(std::size_t(n), 0);
    for (Size row = 0; row < rows; ++row) {
      const T* values = data<T>(x) + row * n;
      std::iota(at.begin(), at.end(), Size{0});
      const auto less = [&](Size i, Size j) {
        if (before(values[i], values[j], order)) return true;
        return !before(values[j], values[i], order) && i < j;
      };
      if (k < n) std::partial_sort(at.begin(), at.begin() + k, at.end(), less);
      else std::sort(at.begin(), at.end(), less);
      std::copy_n(at.begin(), k, fresh<std::int64_t>(places) + row * k);
    }
  });
  return places;
}

Sorted first_of(const char* op, const Tensor& x, Size k, int axis, Order order) {
  require_value(op, x);
  const Tensor values = x.rank() == 0 ? reshape(x, {1}) : x;
  const int along = checked_axis(op, axis, values.rank()), last = values.rank() - 1;
  const Size n = values.shape(along);
  require(k >= 0 && k <= n, op, ": k = ", k, " of axis ", axis, " of ", x.shape(), ", which has ", n);
  Tensor places;
  {
    const NoRecord pause;
    const Tensor moved = transpose(values, along, last);
    Shape shape = moved.shape();
    shape.back() = k;
    places = moved.size() == 0 ? make(shape, Dtype::int64)
                               : reshape(first_places(reshape(moved, {-1, n}), k, order), shape);
    places = transpose(places, along, last);
  }
  Sorted sorted{gather(values, along, places), places};
  if (x.rank() == 0) sorted = {reshape(sorted.values, {}), reshape(sorted.indices, {})};
  return sorted;
}

Size size_along(const Tensor& x, int axis) { return x.rank() == 0 ? 1 : x.shape(axis); }

}  // namespace

Sorted sort(const Tensor& x, int axis, Order order) {
  require_value("sort", x);
  return first_of("sort", x, size_along(x, axis), axis, order);
}

Tensor argsort(const Tensor& x, int axis, Order order) {
  require_value("argsort", x);
  const NoRecord pause;
  return first_of("argsort", x, size_along(x, axis), axis, order).indices;
}

Sorted topk(const Tensor& x, std::int64_t k, int axis, Order order) { return first_of("topk", x, k, axis, order); }

}  // namespace surgeon
