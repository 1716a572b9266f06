// The shapes of reductions.
#include "framework/ops/reduced.hpp"

#include <algorithm>

#include "framework/errors.hpp"

namespace surgeon::ops {

Reduced::Reduced(const char* op, const Tensor& x, const Over& over) : gone(std::size_t(x.rank()), over.axes.empty()) {
  for (const int axis : over.axes) {
    const std::size_t at = std::size_t(checked_axis(op, axis, x.rank()));
    require(!gone[at], op, ": axis ", axis, " is named twice");
    gone[at] = true;
  }
  for (std::size_t axis = 0; axis < gone.size(); ++axis) {
    const std::int64_t size = x.shape()[axis];
    kept.push_back(gone[axis] ? 1 : size);
    if (gone[axis]) n *= size;
    if (!gone[axis] || over.keepdims) shape.push_back(kept.back());
  }
}

std::optional<Reduced::Block> Reduced::block(const Tensor& x) const {
  Block block{1, 1};
  int phase = 0;   // before, within, after the block
  for (std::size_t axis = 0; axis < gone.size(); ++axis) {
    const std::int64_t size = x.shape()[axis];
    if (size == 1) continue;
    if (gone[axis] != (phase == 1)) ++phase;
    if (phase > 2) return {};
    if (!gone[axis]) (phase == 0 ? block.outer : block.inner) *= size;
  }
  return block;
}

Tensor Reduced::as_rows(const Tensor& x) const {
  std::vector<int> order;
  for (const bool last : {false, true})
    for (std::size_t axis = 0; axis < gone.size(); ++axis)
      if (gone[axis] == last) order.push_back(int(axis));
  return std::is_sorted(order.begin(), order.end()) ? x : permute(x, order);
}

void require_elements(const char* op, const Tensor& x, const Reduced& reduced) {
  for (std::size_t axis = 0; axis < reduced.gone.size(); ++axis)
    require(!reduced.gone[axis] || x.shape()[axis] > 0, op, ": axis ", axis, " of ", x.shape(), " has size 0");
}

}  // namespace surgeon::ops
