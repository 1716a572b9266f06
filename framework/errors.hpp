// Errors: one sentence that names the op or file and both values.
//   require<std::out_of_range>(i < n, "gather: index ", i, " ...");
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

#include "framework/tensor.hpp"

namespace surgeon {

// A file that cannot be read or written: "FILE: what is wrong".
struct IoError : std::runtime_error { using std::runtime_error::runtime_error; };

namespace detail {

inline void put(std::ostream& out, const Shape& shape) { out << to_string(shape); }
inline void put(std::ostream& out, Dtype dtype) { out << to_string(dtype); }
template <class T> void put(std::ostream& out, const T& part) { out << part; }

}  // namespace detail

// The parts one after the other; shapes and dtypes as text.
template <class... Parts>
std::string sentence(const Parts&... parts) {
  std::ostringstream out;
  (detail::put(out, parts), ...);
  return out.str();
}

// Throws Error with the parts as its sentence unless the condition holds. They are put together only then.
template <class Error = std::invalid_argument, class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]] throw Error(sentence(parts...));
}

// A tensor that was never given a value is refused by the name of the op it was given to.
inline void require_value(const char* op, const Tensor& x) {
  if (x.empty()) [[unlikely]] detail::refuse_empty(op);
}

// An axis of a tensor of this rank, counted from the front.
inline int checked_axis(const char* op, int axis, int rank) {
  if (axis >= -rank && axis < rank) [[likely]] return axis < 0 ? axis + rank : axis;
  throw std::out_of_range(sentence(op, ": axis ", axis, " of a tensor of rank ", rank));
}

}  // namespace surgeon
