// Reductions over any axes, and cumsum. logsumexp is in softmax.cpp.
#include <algorithm>
#include <cmath>

#include "framework/ops.hpp"
#include "framework/ops/common.hpp"
#include "framework/ops/reduced.hpp"

namespace surgeon {

using namespace ops;

namespace {

Tensor sum_of_integers(const Tensor& x, const Reduced& reduced) {
  Tensor y = make(reduced.shape, Dtype::int64);
  const NoRecord pause;
  const Tensor rows = reduced.as_rows(x.to(Dtype::int64));
  for (std::int64_t i = 0; i < y.size(); ++i) {
    std::uint64_t total = 0;   // wraps instead of overflowing
    for (std::int64_t k = 0; k < reduced.n; ++k) total += std::uint64_t(data<std::int64_t>(rows)[i * reduced.n + k]);
    fresh<std::int64_t>(y)[i] = std::int64_t(total);
  }
  return y;
}

Tensor sum_of(const Tensor& x, const Reduced& reduced) {
  if (!is_floating(x.dtype())) return sum_of_integers(x, reduced);
  Tensor y = make(reduced.shape, x.dtype());
  const NoRecord pause;
  const auto block = reduced.block(x);
  detail::visit_floating(x.dtype(), [&]<class T>(T) {
    if (reduced.n == 0) std::fill_n(fresh<T>(y), y.size(), T(0));
    else if (block && block->inner > 1)
      kernels::sum_columns(data<T>(x), block->outer, reduced.n, block->inner, fresh<T>(y));
    else kernels::sum_rows(data<T>(reduced.as_rows(x)), y.size(), reduced.n, fresh<T>(y));
  });
  return y;
}

enum class Extreme { largest, smallest };

// nan wins.
Tensor extreme_of(const Tensor& x, const Reduced& reduced, Extreme which) {
  Tensor y = make(reduced.shape, x.dtype());
  const NoRecord pause;
  const Tensor rows = reduced.as_rows(x);
  const bool largest = which == Extreme::largest;
  if (x.dtype() == Dtype::int64) {
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const auto *row = data<std::int64_t>(rows) + i * reduced.n, *end = row + reduced.n;
      fresh<std::int64_t>(y)[i] = largest ? *std::max_element(row, end) : *std::min_element(row, end);
    }
    return y;
  }
  detail::visit_floating(x.dtype(), [&]<class T>(T) {
    (largest ? kernels::max_rows<T> : kernels::min_rows<T>)(data<T>(rows), y.size(), reduced.n, fresh<T>(y));
  });
  return y;
}

// Each of the equals gets an equal share.
Tensor extreme(const char* op, const Tensor& x, const Over& over, Extreme which) {
  require_numbers(op, x);
  Reduced reduced(op, x, over);
  require_elements(op, x, reduced);
  Tensor value = extreme_of(x, reduced, which);
  return record(op, {x}, std::move(value),
                [axes = over.axes, kept = std::move(reduced.kept)](const Ins& in, Out y, Grad g) -> Grads {
                  const Tensor hit = (in[0] == reshape(y, kept)).to(g.dtype());
                  return {hit * (reshape(g, kept) / sum(hit, Over{axes, true}))};
                });
}

}  // namespace

Tensor sum(const Tensor& x, const Over& over) {
  require_value("sum", x);
  Reduced reduced("sum", x, over);
  Tensor value = sum_of(x, reduced);
  return record("sum", {x}, std::move(value), [kept = std::move(reduced.kept)](const Ins& in, Out, Grad g) -> Grads {
    return {broadcast_to(reshape(g, kept), in[0].shape())};
  });
}

Tensor mean(const Tensor& x, const Over& over) {
  require_value("mean", x);
  const Reduced reduced("mean", x, over);
  require_elements("mean", x, reduced);
  if (x.dtype() == Dtype::boolean)   // the share that is true
    return (sum(x, over).to(Dtype::float64) / double(reduced.n)).to(Dtype::float32);
  require_floating("mean", x);
  return sum(x, over) / double(reduced.n);
}

Tensor max(const Tensor& x, const Over& over) { return extreme("max", x, over, Extreme::largest); }
Tensor min(const Tensor& x, const Over& over) { return extreme("min", x, over, Extreme::smallest); }

Tensor var(const Tensor& x, const VarOptions& options) {
  require_floating("var", x);
  require(options.correction >= 0, "var: correction ", options.correction, " is negative");
  const Reduced reduced("var", x, {options.axes, options.keepdims});
  require_elements("var", x, reduced);
  const Over kept{options.axes, true};
  Tensor centred = x - mean(x, kept);
  centred = centred - mean(centred, kept);   // what the rounding of a large mean left over
  const std::int64_t freedom = std::max<std::int64_t>(0, reduced.n - options.correction);
  return sum(centred * centred, {options.axes, options.keepdims}) / double(freedom);
}

namespace {

// The first of equals; nan beats all.
template <bool largest>
Tensor place_of_extreme(const char* op, const Tensor& x, int axis) {
  require_numbers(op, x);
  const Reduced reduced(op, x, {{axis}});
  require_elements(op, x, reduced);
  Tensor y = make(reduced.shape, Dtype::int64);
  const NoRecord pause;
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
  require_floating("stddev", x);
  return flat_sqrt(var(x, options));
}

Tensor cumsum(const Tensor& x, int axis) {
  require_numbers("cumsum", x);
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
