// Moving numbers, said with the ops of shape.cpp and index.cpp, so that every derivative is theirs: squeeze, split,
// take, pad, tile, flip, roll, and indexing with brackets.
#include <algorithm>
#include <array>
#include <numeric>

#include "framework/detail/node.hpp"
#include "framework/errors.hpp"
#include "framework/ops.hpp"
#include "framework/ops/common.hpp"

namespace surgeon {

using detail::data;
using detail::fresh;
using detail::make;
using namespace ops;

// ---- Axes of size 1, and axes made one ------------------------------------------------------------------------------

Tensor squeeze(const Tensor& x, const std::vector<int>& axes) {
  require_value("squeeze", x);
  std::vector<bool> gone(std::size_t(x.rank()), false);
  for (const int axis : axes) {
    const std::size_t at = std::size_t(checked_axis("squeeze", axis, x.rank()));
    require(x.shape()[at] == 1, "squeeze: axis ", axis, " of ", x.shape(), " has size ", x.shape()[at], ", not 1");
    require(!gone[at], "squeeze: axis ", axis, " is named twice");
    gone[at] = true;
  }
  Shape shape;
  for (std::size_t i = 0; i < gone.size(); ++i)
    if (!(axes.empty() ? x.shape()[i] == 1 : gone[i])) shape.push_back(x.shape()[i]);
  return reshape(x, shape);
}

Tensor unsqueeze(const Tensor& x, int axis) {
  require_value("unsqueeze", x);
  Shape shape = x.shape();
  shape.insert(shape.begin() + checked_axis("unsqueeze", axis, x.rank() + 1), 1);
  return reshape(x, shape);
}

Tensor flatten(const Tensor& x, int first, int last) {
  require_value("flatten", x);
  if (x.rank() == 0) return reshape(x, {1});
  const int from = checked_axis("flatten", first, x.rank()), to = checked_axis("flatten", last, x.rank());
  require(from <= to, "flatten: axis ", first, " of ", x.shape(), " comes after axis ", last);
  Shape shape(x.shape().begin(), x.shape().begin() + from);
  shape.push_back(std::accumulate(x.shape().begin() + from, x.shape().begin() + to + 1, Size{1}, std::multiplies<>()));
  shape.insert(shape.end(), x.shape().begin() + to + 1, x.shape().end());
  return reshape(x, shape);
}

// ---- Cutting --------------------------------------------------------------------------------------------------------

std::vector<Tensor> split(const Tensor& x, const std::vector<std::int64_t>& sizes, int axis) {
  require_value("split", x);
  const int along = checked_axis("split", axis, x.rank());
  const Size total = std::accumulate(sizes.begin(), sizes.end(), Size{0}), size = x.shape(along);
  require(total == size && std::all_of(sizes.begin(), sizes.end(), [](Size n) { return n >= 0; }), "split: sizes ",
          Shape(sizes), " do not add up to the ", size, " of axis ", axis, " of ", x.shape());
  std::vector<Tensor> parts;
  Size start = 0;
  for (const Size n : sizes) {
    parts.push_back(slice(x, along, start, start + n));
    start += n;
  }
  return parts;
}

std::vector<Tensor> split(const Tensor& x, std::int64_t size, int axis) {
  require_value("split", x);
  require(size >= 1, "split: parts of size ", size, "; at least 1 is needed");
  const Size n = x.shape(checked_axis("split", axis, x.rank()));
  std::vector<std::int64_t> sizes;
  for (Size start = 0; start < n; start += size) sizes.push_back(std::min(size, n - start));
  return split(x, sizes.empty() ? std::vector<std::int64_t>{0} : sizes, axis);
}

std::vector<Tensor> chunk(const Tensor& x, std::int64_t chunks, int axis) {
  require_value("chunk", x);
  require(chunks >= 1, "chunk: ", chunks, " chunks; at least 1 is needed");
  const Size n = x.shape(checked_axis("chunk", axis, x.rank()));
  return split(x, std::max<Size>(1, (n + chunks - 1) / chunks), axis);
}

// ---- Picking by number ----------------------------------------------------------------------------------------------

namespace {

// The same places counted from the front.
Tensor from_the_front(const char* op, const Tensor& index, Size size) {
  require_value(op, index);
  require(index.dtype() == Dtype::int64, op, ": needs an int64 index, not ", index.dtype());
  const Tensor places = make(index.shape(), Dtype::int64);
  for (Size i = 0; i < index.size(); ++i) {
    const Size place = data<std::int64_t>(index)[i];
    require<std::out_of_range>(place >= -size && place < size, op, ": index ", place, " at position ", i,
                               " is outside an axis of size ", size);
    fresh<std::int64_t>(places)[i] = place < 0 ? place + size : place;
  }
  return places;
}

// The axis at `from` stands at `to`, the others in their order.
Tensor move_axis(const Tensor& x, int from, int to) {
  std::vector<int> order(std::size_t(x.rank()));
  std::iota(order.begin(), order.end(), 0);
  order.erase(order.begin() + from);
  order.insert(order.begin() + to, from);
  return permute(x, order);
}

Shape joined(std::initializer_list<Shape> parts) {
  Shape shape;
  for (const Shape& part : parts) shape.insert(shape.end(), part.begin(), part.end());
  return shape;
}

}  // namespace

Tensor take(const Tensor& x, const Tensor& index, int axis) {
  require_value("take", x);
  const int along = checked_axis("take", axis, x.rank());
  const Tensor places = from_the_front("take", index, x.shape(along));
  const Shape before(x.shape().begin(), x.shape().begin() + along), after(x.shape().begin() + along + 1, x.shape().end());
  // [size, everything else], of which whole rows are taken.
  const Tensor rows = reshape(move_axis(x, along, 0), {x.shape(along), count(before) * count(after)});
  const Tensor taken = reshape(embedding(rows, places), joined({{places.size()}, before, after}));
  return reshape(move_axis(taken, 0, along), joined({before, index.shape(), after}));
}

Tensor take(const Tensor& x, const Tensor& index) { return take(flatten(x), index, 0); }

Tensor index_select(const Tensor& x, int axis, const Tensor& index) { return take(x, index, axis); }

Tensor Tensor::operator[](std::int64_t place) const { return (*this)(Index(place)); }
Tensor Tensor::operator()(Index a) const { return detail::indexed(*this, std::array{a}); }
Tensor Tensor::operator()(Index a, Index b) const { return detail::indexed(*this, std::array{a, b}); }
Tensor Tensor::operator()(Index a, Index b, Index c) const { return detail::indexed(*this, std::array{a, b, c}); }
Tensor Tensor::operator()(Index a, Index b, Index c, Index d) const {
  return detail::indexed(*this, std::array{a, b, c, d});
}

Tensor detail::indexed(const Tensor& x, std::span<const Index> parts) {
  require_value("index", x);
  const auto is_ellipsis = [](const Index& i) { return i.kind == Index::Kind::ellipsis; };
  const auto named = std::count_if(parts.begin(), parts.end(), [&](const Index& i) { return !is_ellipsis(i); });
  require(Size(parts.size()) - named <= 1, "index: more than one ellipsis");
  require(named <= x.rank(), "index: ", named, " indices for a tensor of shape ", x.shape());
  Tensor y = x;
  int axis = 0;
  std::vector<int> dropped;
  for (const Index& part : parts) {
    if (is_ellipsis(part)) {
      axis += x.rank() - int(named);
    } else if (part.kind == Index::Kind::place) {
      const Size size = x.shape(axis), at = part.start < 0 ? part.start + size : part.start;
      require<std::out_of_range>(at >= 0 && at < size, "index: ", part.start, " is outside axis ", axis, " of ", x.shape());
      y = slice(y, axis, at, at + 1);
      dropped.push_back(axis++);
    } else {
      y = slice(y, axis++, part.start, part.stop, part.step);
    }
  }
  return dropped.empty() ? y : squeeze(y, dropped);
}

Tensor detail::stacked(const std::vector<Tensor>& rows) {
  for (const Tensor& row : rows)
    require(row.shape() == rows.front().shape(), "tensor: inner lists of shapes ", rows.front().shape(), " and ",
            row.shape(), "; they must be alike");
  const NoRecord pause;
  return rows.empty() ? zeros({0}) : stack(rows, 0).detach();
}

// ---- Repeating and turning ------------------------------------------------------------------------------------------

Tensor tile(const Tensor& x, const std::vector<std::int64_t>& repeats) {
  require_value("tile", x);
  Shape from = x.shape(), times = repeats;
  while (from.size() < times.size()) from.insert(from.begin(), 1);
  while (times.size() < from.size()) times.insert(times.begin(), 1);
  Shape apart, spread, shape;   // [1, n, 1, m], [a, n, b, m], [a n, b m]
  for (std::size_t i = 0; i < from.size(); ++i) {
    require(times[i] >= 0, "tile: ", times[i], " repeats of axis ", i, "; none may be negative");
    apart.insert(apart.end(), {1, from[i]});
    spread.insert(spread.end(), {times[i], from[i]});
    shape.push_back(times[i] * from[i]);
  }
  return reshape(broadcast_to(reshape(x, apart), spread), shape);
}

Tensor flip(const Tensor& x, const std::vector<int>& axes) {
  require_value("flip", x);
  Tensor y = x;
  for (const int axis : axes) y = slice(y, axis, -1, -to_end, -1);
  return y;
}

Tensor roll(const Tensor& x, std::int64_t shift, int axis) {
  require_value("roll", x);
  const int along = checked_axis("roll", axis, x.rank());
  const Size n = x.shape(along);
  if (n == 0) return x;
  const Size by = (shift % n + n) % n;
  if (by == 0) return x;
  return concat({slice(x, along, n - by), slice(x, along, 0, n - by)}, along);
}

namespace {

// The place that each place of the padded axis shows.
Tensor shown_places(Size size, const Padding::Width& width, PadMode mode) {
  std::vector<std::int64_t> places;
  for (Size i = -width.before; i < size + width.after; ++i) {
    if (mode == PadMode::edge) {
      places.push_back(std::clamp<Size>(i, 0, size - 1));
    } else {   // reflect: 2 1 0 1 2 1 0, a wave of period 2 (size - 1)
      const Size period = std::max<Size>(1, 2 * (size - 1)), at = (i % period + period) % period;
      places.push_back(at < size ? at : period - at);
    }
  }
  return tensor(places, {Size(places.size())});
}

}  // namespace

Tensor pad(const Tensor& x, const std::vector<Padding::Width>& widths, const Padding& padding) {
  require_numbers("pad", x);
  require(int(widths.size()) <= x.rank(), "pad: ", widths.size(), " widths for a tensor of shape ", x.shape());
  Tensor y = x;
  for (std::size_t i = 0; i < widths.size(); ++i) {
    const int axis = x.rank() - int(widths.size()) + int(i);
    const Padding::Width& width = widths[i];
    const Size size = x.shape(axis);
    require(width.before >= 0 && width.after >= 0, "pad: widths ", width.before, " and ", width.after, " of axis ", axis,
            "; neither may be negative");
    if (width.before == 0 && width.after == 0) continue;
    if (padding.mode == PadMode::constant) {
      Shape before = y.shape(), after = y.shape();
      before[std::size_t(axis)] = width.before;
      after[std::size_t(axis)] = width.after;
      y = concat({full(before, padding.value, x.dtype()), y, full(after, padding.value, x.dtype())}, axis);
      continue;
    }
    require(size > 0, "pad: axis ", axis, " of ", x.shape(), " has size 0, so there is nothing to repeat");
    y = take(y, shown_places(size, width, padding.mode), axis);
  }
  return y;
}

}  // namespace surgeon
