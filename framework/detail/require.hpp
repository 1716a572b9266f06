// Refusing at the door, in one line: require<std::out_of_range>(i < n, "gather: index ", i, " ...").
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include "framework/tensor.hpp"

namespace surgeon::detail {

inline void put(std::ostream& out, const Shape& shape) { out << to_string(shape); }
inline void put(std::ostream& out, Dtype dtype) { out << to_string(dtype); }
template <class T> void put(std::ostream& out, const T& part) { out << part; }

template <class... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream out;
  (put(out, parts), ...);
  return out.str();
}

// The parts are only put together when the condition fails.
template <class Error = std::invalid_argument, class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]] throw Error(join(parts...));
}

// A tensor that was never given a value is refused by the name of the op it was given to.
inline void require_value(const char* op, const Tensor& x) {
  if (x.empty()) [[unlikely]] refuse_empty(op);
}

// An axis of a tensor of this rank, counted from the front.
inline int checked_axis(const char* op, int axis, int rank) {
  if (axis >= -rank && axis < rank) [[likely]] return axis < 0 ? axis + rank : axis;
  throw std::out_of_range(join(op, ": axis ", axis, " of a tensor of rank ", rank));
}

}  // namespace surgeon::detail
