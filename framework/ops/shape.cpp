// Ops that move numbers and compute none: reshape, permute, slice, concat, broadcast_to, tril and triu.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "framework/kernels/strides.hpp"
#include "framework/ops.hpp"
#include "framework/ops/common.hpp"

namespace surgeon {

using kernels::Sizes;
using namespace ops;

namespace {

Sizes row_major(const Shape& shape) { return kernels::broadcast_strides(shape, shape); }

// into[... into strides] = from[... from strides] over `shape`; strides count elements and may be 0 or negative.
template <class T>
void copy_strided(const Shape& shape, const T* from, const Sizes& from_strides, T* into, const Sizes& into_strides) {
  const kernels::Walk<2> walk(shape, {from_strides, into_strides});
  const std::int64_t a = walk.step(0), b = walk.step(1);
  walk.run(move_grain, [&](const auto& at, std::int64_t n) {
    const T* x = from + at[0];
    T* y = into + at[1];
    if (a == 1 && b == 1) std::memcpy(y, x, std::size_t(n) * sizeof(T));
    else for (std::int64_t i = 0; i < n; ++i) y[i * b] = x[i * a];
  });
}

// The same for bytes of any dtype: numbers of equal size are moved alike.
template <class Body>
void visit_bytes(Dtype dtype, const Body& body) {
  switch (element_size(dtype)) {
    case 1: return body(std::uint8_t{});
    case 4: return body(std::uint32_t{});
    default: return body(std::uint64_t{});
  }
}

template <class T> T* numbers(const Tensor& x) { return static_cast<T*>(x.node().data); }

Tensor permuted(const Tensor& x, const std::vector<int>& order) {
  const int rank = x.rank();
  Shape shape(order.size());
  Sizes strides(order.size());
  const Sizes from = row_major(x.shape());
  for (std::size_t i = 0; i < order.size(); ++i) {
    shape[i] = x.shape()[std::size_t(order[i])];
    strides[i] = from[std::size_t(order[i])];
  }
  Tensor y = make(shape, x.dtype());
  const auto last = order.end() - std::min(rank, 2);
  if (rank >= 2 && last[0] == rank - 1 && last[1] == rank - 2 && std::is_sorted(order.begin(), last)) {
    const std::int64_t rows = x.shape(-2), columns = x.shape(-1);
    const std::int64_t matrices = y.size() ? y.size() / (rows * columns) : 0;
    kernels::transpose(x.node().data, matrices, rows, columns, element_size(x.dtype()), y.node().data);
    return y;
  }
  visit_bytes(x.dtype(), [&]<class T>(T) {
    copy_strided(shape, numbers<T>(x), strides, numbers<T>(y), row_major(shape));
  });
  return y;
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) {
  require_value("reshape", x);
  Shape to = shape;
  std::int64_t known = 1, open = -1;
  for (std::size_t i = 0; i < to.size(); ++i) {
    require(to[i] >= -1, "reshape: ", x.shape(), " to ", shape, ": size ", to[i], " is negative");
    require(to[i] != -1 || open < 0, "reshape: ", x.shape(), " to ", shape, ": only one size may be -1");
    if (to[i] == -1) open = std::int64_t(i);
    else known *= to[i];
  }
  if (open >= 0) {
    require(known != 0 && x.size() % known == 0, "reshape: ", x.shape(), " to ", shape, ": ", x.size(),
            " elements are not divisible by ", known);
    to[std::size_t(open)] = x.size() / known;
  }
  require(count(to) == x.size(), "reshape: ", x.shape(), " to ", shape, ": ", x.size(), " elements cannot become ",
          count(to));
  return record("reshape", {x}, detail::share(x, std::move(to)),
                [](const Ins& in, Out, Grad g) -> Grads { return {reshape(g, in[0].shape())}; });
}

Tensor permute(const Tensor& x, const std::vector<int>& order) {
  require_value("permute", x);
  require(int(order.size()) == x.rank(), "permute: ", order.size(), " axes are named, but ", x.shape(), " has ",
          x.rank());
  std::vector<int> axes, back(order.size(), -1);
  for (const int axis : order) {
    const int checked = checked_axis("permute", axis, x.rank());
    require(back[std::size_t(checked)] < 0, "permute: axis ", axis, " is named twice");
    back[std::size_t(checked)] = int(axes.size());
    axes.push_back(checked);
  }
  return record("permute", {x}, permuted(x, axes),
                [back](const Ins&, Out, Grad g) -> Grads { return {permute(g, back)}; });
}

Tensor transpose(const Tensor& x, int a, int b) {
  require_value("transpose", x);
  std::vector<int> order(std::size_t(x.rank()));
  std::iota(order.begin(), order.end(), 0);
  std::swap(order[std::size_t(checked_axis("transpose", a, x.rank()))],
            order[std::size_t(checked_axis("transpose", b, x.rank()))]);
  return permute(x, order);
}

namespace {

struct Cut {   // positions start, start + step, ..., n of them, along one axis
  int axis;
  std::int64_t start, step, n;
};

// Zeros of `shape`, with g where slice() took from: slice's adjoint.
Tensor put_slice(const Tensor& g, const Shape& shape, const Cut& cut) {
  const Tensor y = zeros(shape, g.dtype());
  Sizes strides = row_major(shape);
  const std::int64_t offset = cut.start * strides[std::size_t(cut.axis)];
  strides[std::size_t(cut.axis)] *= cut.step;
  visit_bytes(g.dtype(), [&]<class T>(T) {
    copy_strided(g.shape(), numbers<T>(g), row_major(g.shape()), numbers<T>(y) + offset, strides);
  });
  return y;
}

Tensor take_slice(const Tensor& x, const Cut& cut) {
  Shape shape = x.shape();
  shape[std::size_t(cut.axis)] = cut.n;
  Tensor y = make(shape, x.dtype());
  Sizes strides = row_major(x.shape());
  const std::int64_t offset = cut.start * strides[std::size_t(cut.axis)];
  strides[std::size_t(cut.axis)] *= cut.step;
  visit_bytes(x.dtype(), [&]<class T>(T) {
    copy_strided(shape, numbers<T>(x) + offset, strides, numbers<T>(y), row_major(shape));
  });
  return y;
}

Tensor slice_by(const Tensor& x, const Cut& cut);

Tensor slice_adjoint(const Tensor& g, const Shape& shape, const Cut& cut) {
  return record("slice_adjoint", {g}, put_slice(g, shape, cut),
                [cut](const Ins&, Out, Grad h) -> Grads { return {slice_by(h, cut)}; });
}

Tensor slice_by(const Tensor& x, const Cut& cut) {
  return record("slice", {x}, take_slice(x, cut),
                [cut](const Ins& in, Out, Grad g) -> Grads { return {slice_adjoint(g, in[0].shape(), cut)}; });
}

}  // namespace

Tensor slice(const Tensor& x, int axis, std::int64_t start, std::int64_t stop, std::int64_t step) {
  require_value("slice", x);
  require(step != 0, "slice: the step must not be 0");
  const int along = checked_axis("slice", axis, x.rank());
  const std::int64_t size = x.shape()[std::size_t(along)];
  // As Python does: from the end when negative, then clipped to what can be reached in this direction.
  const std::int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
  const auto clip = [&](std::int64_t at) { return std::clamp(at < 0 && at > -to_end ? at + size : at, low, high); };
  const std::int64_t from = clip(start), to = clip(stop);
  const std::int64_t distance = step > 0 ? to - from : from - to;
  const std::uint64_t stride = step > 0 ? std::uint64_t(step) : -std::uint64_t(step);
  const std::int64_t n = distance > 0 ? std::int64_t((std::uint64_t(distance) - 1) / stride) + 1 : 0;
  return slice_by(x, {along, n ? from : 0, n > 1 ? step : 1, n});
}

namespace {

// Of all of them one after the other.
Shape joined_shape(const std::vector<Tensor>& ts, std::size_t along) {
  const Tensor& first = ts.front();
  Shape shape = first.shape();
  shape[along] = 0;
  for (const Tensor& t : ts) {
    require_same_dtype("concat", first, t);
    Shape fits = t.shape();
    if (fits.size() == shape.size()) fits[along] = shape[along];
    require(fits == shape, "concat: ", first.shape(), " and ", t.shape(), " differ in more than axis ", along);
    shape[along] += t.shape()[along];
  }
  return shape;
}

}  // namespace

Tensor concat(const std::vector<Tensor>& ts, int axis) {
  require(!ts.empty(), "concat: needs at least one tensor");
  require_value("concat", ts.front());
  const std::size_t along = std::size_t(checked_axis("concat", axis, ts.front().rank()));
  const Shape shape = joined_shape(ts, along);
  Tensor y = make(shape, ts.front().dtype());
  std::int64_t outer = 1, inner = element_size(y.dtype());
  for (std::size_t i = 0; i < shape.size(); ++i) (i < along ? outer : inner) *= i == along ? 1 : shape[i];
  std::int64_t offset = 0;
  std::vector<std::int64_t> starts;
  for (const Tensor& t : ts) {
    starts.push_back(offset);
    const std::int64_t bytes = t.shape()[along] * inner;
    for (std::int64_t i = 0; i < outer && bytes > 0; ++i)
      std::memcpy(numbers<std::byte>(y) + i * shape[along] * inner + offset * inner,
                  numbers<std::byte>(t) + i * bytes, std::size_t(bytes));
    offset += t.shape()[along];
  }
  const auto rule = [along, starts = std::move(starts)](const Ins& in, Out, Grad g) -> Grads {
    Grads gradients;
    for (std::size_t i = 0; i < in.size(); ++i)
      gradients.push_back(in.wanted(i) ? slice(g, int(along), starts[i], starts[i] + in[i].shape()[along]) : Tensor());
    return gradients;
  };
  return record("concat", Inputs(std::span<const Tensor>(ts)), y, rule);
}

Tensor stack(const std::vector<Tensor>& ts, int axis) {
  require(!ts.empty(), "stack: needs at least one tensor");
  for (const Tensor& t : ts) {
    require_value("stack", t);
    require(t.shape() == ts.front().shape(), "stack: shapes ", ts.front().shape(), " and ", t.shape(), " differ");
  }
  Shape shape = ts.front().shape();
  shape.insert(shape.begin() + checked_axis("stack", axis, int(shape.size()) + 1), 1);
  std::vector<Tensor> layers;
  for (const Tensor& t : ts) layers.push_back(reshape(t, shape));
  return concat(layers, checked_axis("stack", axis, int(shape.size())));
}

Tensor broadcast_to(const Tensor& x, const Shape& shape) {
  require_value("broadcast_to", x);
  require(broadcasts_to(x.shape(), shape), "broadcast_to: ", x.shape(), " does not broadcast to ", shape);
  Tensor y = make(shape, x.dtype());
  visit_bytes(x.dtype(), [&]<class T>(T) {
    copy_strided(shape, numbers<T>(x), kernels::broadcast_strides(x.shape(), shape), numbers<T>(y), row_major(shape));
  });
  return record("broadcast_to", {x}, y, [](const Ins&, Out, Grad g) -> Grads { return {g}; });   // the engine sums
}

namespace {

enum class Part { lower, upper };

// The first column of row i that lies above the lower part, or the first of the upper part. diagonal may be any number.
std::int64_t edge_of(Part part, std::int64_t i, std::int64_t diagonal, std::int64_t columns) {
  const std::int64_t below = part == Part::lower ? 1 : 0;   // the diagonal belongs to both parts
  if (diagonal >= columns - i) return columns;
  return diagonal <= -i - below ? 0 : i + diagonal + below;
}

// The part of each matrix on and below, or on and above, the diagonal; the rest 0, whatever it held.
Tensor triangle(const char* name, Part part, const Tensor& x, std::int64_t diagonal) {
  require_value(name, x);
  require(x.rank() >= 2, name, ": needs at least two axes, not ", x.shape());
  const std::int64_t rows = x.shape(-2), columns = x.shape(-1);
  Tensor y = make(x.shape(), x.dtype());
  visit_bytes(x.dtype(), [&]<class T>(T) {
    for (std::int64_t row = 0; row < (columns > 0 ? x.size() / columns : 0); ++row) {
      const std::int64_t edge = edge_of(part, row % rows, diagonal, columns);
      const T* from = numbers<T>(x) + row * columns;
      T* into = numbers<T>(y) + row * columns;
      for (std::int64_t j = 0; j < columns; ++j) into[j] = (j < edge) == (part == Part::lower) ? from[j] : T{};
    }
  });
  return y;
}

}  // namespace

Tensor tril(const Tensor& x, std::int64_t diagonal) {
  return record("tril", {x}, triangle("tril", Part::lower, x, diagonal),
                [diagonal](const Ins&, Out, Grad g) -> Grads { return {tril(g, diagonal)}; });
}

Tensor triu(const Tensor& x, std::int64_t diagonal) {
  return record("triu", {x}, triangle("triu", Part::upper, x, diagonal),
                [diagonal](const Ins&, Out, Grad g) -> Grads { return {triu(g, diagonal)}; });
}

}  // namespace surgeon
