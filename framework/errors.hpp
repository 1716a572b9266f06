// Errors: each is one sentence that names the op or the file, and both values that do not fit.
//   require<std::out_of_range>(i < n, "gather: index ", i, " is out of range for an axis of size ", n);
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

#include "framework/shape.hpp"

namespace surgeon {

// A file that cannot be read or written: "FILE: what is wrong".
struct IoError : std::runtime_error { using std::runtime_error::runtime_error; };

namespace detail {

inline void put(std::ostream& out, const Shape& shape) { out << to_string(shape); }
inline void put(std::ostream& out, Dtype dtype) { out << to_string(dtype); }
template <class T> void put(std::ostream& out, const T& part) { out << part; }

}  // namespace detail

// The parts joined into one text; shapes and dtypes are written out.
template <class... Parts>
std::string sentence(const Parts&... parts) {
  std::ostringstream out;
  (detail::put(out, parts), ...);
  return out.str();
}

// Unless the condition holds, throws Error with the sentence that the parts make. They are joined only then.
template <class Error = std::invalid_argument, class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]] throw Error(sentence(parts...));
}

// An axis of a tensor of this rank, counted from the front.
inline int checked_axis(const char* op, int axis, int rank) {
  if (axis >= -rank && axis < rank) [[likely]] return axis < 0 ? axis + rank : axis;
  throw std::out_of_range(sentence(op, ": axis ", axis, " is out of range for a tensor of rank ", rank));
}

}  // namespace surgeon
