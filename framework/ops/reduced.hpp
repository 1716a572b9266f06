// What a reduction does to a shape: which axes go, and how their elements become rows.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "framework/ops.hpp"

namespace surgeon::ops {

struct Reduced {
  // Refuses an axis that x does not have, or that is named twice.
  Reduced(const char* op, const Tensor& x, const Over& over);

  struct Block { std::int64_t outer, inner; };
  std::optional<Block> block(const Tensor& x) const;   // when x can be read as [outer, n, inner], the middle going
  Tensor as_rows(const Tensor& x) const;               // x with the axes that go last: rows of n elements

  std::vector<bool> gone;   // by axis
  Shape shape;              // of the result
  Shape kept;               // the same with the axes that go as 1
  std::int64_t n = 1;       // elements that make one
};

// Refuses a reduction over no elements: "max: axis 0 of [0, 3] has size 0".
void require_elements(const char* op, const Tensor& x, const Reduced& reduced);

}  // namespace surgeon::ops
