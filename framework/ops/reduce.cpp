// Reductions over any axes, and cumsum. Softmax and its relatives are in ops_fused.cpp.
#include <algorithm>
#include <cmath>

#include "framework/autograd.hpp"
#include "framework/detail/node.hpp"
#include "framework/errors.hpp"
#include "framework/kernels/rows.hpp"
#include "framework/ops.hpp"
#include "framework/ops/common.hpp"

namespace surgeon {

using detail::data;
using detail::fresh;
using detail::make;

namespace {

// Which axes go: all of them when none is named.
struct Reduced {
  Reduced(const char* op, const Tensor& x, const std::vector<int>& axes) : gone(std::size_t(x.rank()), axes.empty()) {
    for (const int axis : axes) {
      const std::size_t at = std::size_t(checked_axis(op, axis, x.rank()));
      require(!gone[at], op, ": axis ", axis, " is named twice");
      gone[at] = true;
    }
    for (std::size_t axis = 0; axis < gone.size(); ++axis) {
      const std::int64_t size = x.shape()[axis];
      kept_dims.push_back(gone[axis] ? 1 : size);
      if (gone[axis]) n *= size;
      else shape.push_back(size);
    }
  }
  const Shape& result(bool keepdims) const { return keepdims ? kept_dims : shape; }

  // x read as [outer, n, inner] with the middle going, if it can be.
  bool is_block(const Tensor& x, std::int64_t& outer, std::int64_t& inner) const {
    outer = inner = 1;
    int phase = 0;   // before, within, after the block
    for (std::size_t axis = 0; axis < gone.size(); ++axis) {
      const std::int64_t size = x.shape()[axis];
      if (size == 1) continue;
      if (gone[axis] != (phase == 1)) ++phase;
      if (phase > 2) return false;
      if (!gone[axis]) (phase == 0 ? outer : inner) *= size;
    }
    return true;
  }

  // x with the reduced axes last: rows to be reduced.
  Tensor as_rows(const Tensor& x) const {
    std::vector<int> order;
    for (const bool last : {false, true})
      for (std::size_t axis = 0; axis < gone.size(); ++axis)
        if (gone[axis] == last) order.push_back(int(axis));
    const NoRecord pause;
    return std::is_sorted(order.begin(), order.end()) ? x : permute(x, order);
  }

  std::vector<bool> gone;
  Shape shape, kept_dims;
  std::int64_t n = 1;   // elements that make one
};

Tensor sum_of(const Tensor& x, const Reduced& reduced, bool keepdims) {
  const bool floating = is_floating(x.dtype());
  Tensor y = make(reduced.result(keepdims), floating ? x.dtype() : Dtype::int64);
  if (!floating) {
    const Tensor rows = reduced.as_rows(x.to(Dtype::int64));
    for (std::int64_t i = 0; i < y.size(); ++i) {
      std::uint64_t total = 0;   // wraps instead of overflowing
      for (std::int64_t k = 0; k < reduced.n; ++k) total += std::uint64_t(data<std::int64_t>(rows)[i * reduced.n + k]);
      fresh<std::int64_t>(y)[i] = std::int64_t(total);
    }
    return y;
  }
  detail::visit_floating(x.dtype(), [&]<class T>(T) {
    std::int64_t outer, inner;
    if (reduced.n == 0) std::fill_n(fresh<T>(y), y.size(), T(0));
    else if (reduced.is_block(x, outer, inner) && inner > 1)
      kernels::sum_columns(data<T>(x), outer, reduced.n, inner, fresh<T>(y));
    else kernels::sum_rows(data<T>(reduced.as_rows(x)), y.size(), reduced.n, fresh<T>(y));
  });
  return y;
}

// Max or min; nan wins.
Tensor extreme_of(const char* op, const Tensor& x, const Reduced& reduced, bool keepdims, bool largest) {
  require(x.dtype() != Dtype::boolean, op, ": needs numbers, not boolean (convert it with .to)");
  require(reduced.n > 0, op, ": of nothing, over an axis of size 0 of ", x.shape());
  Tensor y = make(reduced.result(keepdims), x.dtype());
  const Tensor rows = reduced.as_rows(x);
  if (x.dtype() == Dtype::int64) {
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const auto* row = data<std::int64_t>(rows) + i * reduced.n;
      fresh<std::int64_t>(y)[i] = largest ? *std::max_element(row, row + reduced.n) : *std::min_element(row, row + reduced.n);
    }
    return y;
  }
  detail::visit_floating(x.dtype(), [&]<class T>(T) {
    (largest ? kernels::max_rows<T> : kernels::min_rows<T>)(data<T>(rows), y.size(), reduced.n, fresh<T>(y));
  });
  return y;
}

// Each of the equals gets an equal share.
template <bool largest>
Tensor extreme(const char* op, const Tensor& x, const Over& over) {
  require_value(op, x);
  Reduced reduced(op, x, over.axes);
  Tensor value = extreme_of(op, x, reduced, over.keepdims, largest);
  return record(op, {x}, std::move(value),
                [axes = over.axes, kept = std::move(reduced.kept_dims)](const Ins& in, Out y, Grad g) -> Grads {
                  const Tensor hit = (in[0] == reshape(y, kept)).to(g.dtype());
                  return {hit * (reshape(g, kept) / sum(hit, Over{axes, true}))};
                });
}

}  // namespace

Tensor sum(const Tensor& x, const Over& over) {
  require_value("sum", x);
  Reduced reduced("sum", x, over.axes);
  Tensor value = sum_of(x, reduced, over.keepdims);
  return record("sum", {x}, std::move(value),
                [kept = std::move(reduced.kept_dims)](const Ins& in, Out, Grad g) -> Grads {
                  return {broadcast_to(reshape(g, kept), in[0].shape())};
                });
}

Tensor mean(const Tensor& x, const Over& over) {
  require_value("mean", x);
  if (x.dtype() == Dtype::boolean) {   // the share that is true
    const std::int64_t n = Reduced("mean", x, over.axes).n;
    require(n > 0, "mean: an axis of ", x.shape(), " has size 0");
    return (sum(x, over).to(Dtype::float64) / double(n)).to(Dtype::float32);
  }
  require(is_floating(x.dtype()), "mean: needs float32 or float64, not ", x.dtype());
  const std::int64_t n = Reduced("mean", x, over.axes).n;
  require(n > 0, "mean: of nothing, over an axis of size 0 of ", x.shape());
  return sum(x, over) / double(n);
}

Tensor max(const Tensor& x, const Over& over) { return extreme<true>("max", x, over); }
Tensor min(const Tensor& x, const Over& over) { return extreme<false>("min", x, over); }

Tensor var(const Tensor& x, const VarOptions& options) {
  require_value("var", x);
  require(is_floating(x.dtype()), "var: needs float32 or float64, not ", x.dtype());
  require(options.correction >= 0, "var: correction ", options.correction, " is negative");
  const std::int64_t n = Reduced("var", x, options.axes).n;
  require(n > 0, "var: of nothing, over an axis of size 0 of ", x.shape());
  const Over kept{options.axes, true};
  Tensor centred = x - mean(x, kept);
  centred = centred - mean(centred, kept);   // what the rounding of a large mean left over
  return sum(centred * centred, Over{options.axes, options.keepdims}) / double(std::max<std::int64_t>(0, n - options.correction));
}

namespace {

// The first of equals; nan beats all.
template <bool largest>
Tensor place_of_extreme(const char* op, const Tensor& x, int axis) {
  ops::require_numbers(op, x);
  const Reduced reduced(op, x, {axis});
  require(reduced.n > 0, op, ": axis ", axis, " of ", x.shape(), " has size 0");
  Tensor y = make(reduced.shape, Dtype::int64);
  const Tensor rows = reduced.as_rows(x);
  detail::visit_dtype(x.dtype(), [&]<class T>(T) {
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const auto* row = data<T>(rows) + i * reduced.n;
      std::int64_t best = 0;
      for (std::int64_t k = 1; k < reduced.n && row[best] == row[best]; ++k)
        if (largest ? !(row[k] <= row[best]) : !(row[k] >= row[best])) best = k;   // better, or nan
      fresh<std::int64_t>(y)[i] = best;
    }
  });
  return y;
}

// sqrt with all derivatives 0 at 0, where they do not exist.
Tensor flat_sqrt(const Tensor& x) {
  const Tensor zero = x == 0.0;
  return masked_fill(sqrt(masked_fill(x, zero, 1.0)), zero, 0.0);
}

}  // namespace

Tensor argmax(const Tensor& x, int axis) { return place_of_extreme<true>("argmax", x, axis); }
Tensor argmin(const Tensor& x, int axis) { return place_of_extreme<false>("argmin", x, axis); }

Tensor stddev(const Tensor& x, const VarOptions& options) {
  ops::require_floating("stddev", x);
  return flat_sqrt(var(x, options));
}

Tensor cumsum(const Tensor& x, int axis) {
  require_value("cumsum", x);
  require(x.dtype() != Dtype::boolean, "cumsum: needs numbers, not boolean (convert it with .to)");
  const int along = checked_axis("cumsum", axis, x.rank());
  std::int64_t inner = 1;
  const std::int64_t n = x.shape(along);
  for (int i = along + 1; i < x.rank(); ++i) inner *= x.shape(i);
  Tensor y = make(x.shape(), x.dtype());
  detail::visit_dtype(x.dtype(), [&]<class T>(T) {
    using Total = std::conditional_t<std::is_same_v<T, float>, double, T>;
    const std::int64_t block = std::max<std::int64_t>(1, n * inner);
    for (std::int64_t start = 0; start < x.size(); start += block)
      for (std::int64_t j = 0; j < inner; ++j) {
        Total total{};
        for (std::int64_t k = 0; k < n; ++k) {
          const std::int64_t at = start + k * inner + j;
          fresh<T>(y)[at] = T(total = Total(total + Total(data<T>(x)[at])));
        }
      }
  });
  return record("cumsum", {x}, y, [along](const Ins&, Out, Grad g) -> Grads {
    const auto reversed = [&](const Tensor& v) { return slice(v, along, -1, -to_end, -1); };
    return {reversed(cumsum(reversed(g), along))};
  });
}

namespace detail {

Tensor sum_to(const Tensor& g, const Shape& shape) {
  std::vector<int> axes;
  const int extra = g.rank() - int(shape.size());
  for (int axis = 0; axis < g.rank(); ++axis)
    if (axis < extra || (shape[std::size_t(axis - extra)] == 1 && g.shape(axis) != 1)) axes.push_back(axis);
  const Tensor total = axes.empty() ? g : sum(g, Over{axes, true});
  return total.shape() == shape ? total : reshape(total, shape);
}

}  // namespace detail
}  // namespace surgeon
