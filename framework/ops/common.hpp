// What the files of ops share: refusals, shapes, and handing rows to threads. It brings the headers they all need.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>

#include "framework/autograd.hpp"
#include "framework/detail/node.hpp"
#include "framework/errors.hpp"
#include "framework/kernels/elementwise.hpp"
#include "framework/kernels/rows.hpp"
#include "framework/kernels/threads.hpp"

namespace surgeon::ops {

// What an op needs of a tensor's inside: a new one, its numbers to read, and to write.
using detail::data;
using detail::fresh;
using detail::make;

using Size = std::int64_t;
using Tensors = std::span<const Tensor>;   // what a rule or a reference is given

// Elements that are worth a thread: with less work, starting one costs more than it saves.
inline constexpr Size move_grain = 1 << 15;   // at about one addition each
inline constexpr Size exp_grain = 1 << 14;    // at about one exp each

// ---- Refusals ------------------------------------------------------------------------------------------------------
inline void require_numbers(const char* op, const Tensor& x) {
  require_value(op, x);
  require(x.dtype() != Dtype::boolean, op, ": needs numbers, not boolean (convert it with .to)");
}
inline void require_same_dtype(const char* op, const Tensor& x, const char* name, const Tensor& other) {
  require_value(op, other);
  require(other.dtype() == x.dtype(), op, ": ", name, " is ", other.dtype(), ", but x is ", x.dtype());
}
inline void require_same_dtype(const char* op, const Tensor& a, const Tensor& b) {
  require_value(op, b);
  require(a.dtype() == b.dtype(), op, ": ", a.dtype(), " with ", b.dtype(), " (dtypes never promote: use .to)");
}

// ---- Shapes --------------------------------------------------------------------------------------------------------
// As NumPy broadcasts; std::invalid_argument "OP: [2, 3] and [4, 3]: sizes 2 and 4 do not broadcast".
// matrix_axes: how many axes at the end do not take part, 2 for a product of matrices.
Shape broadcast_shape(const char* op, const Shape& a, const Shape& b, std::ptrdiff_t matrix_axes = 0);

// A tensor of rank 1 or more as rows along its last axis.
inline Size columns(const Tensor& x) { return x.shape(-1); }
inline Size rows_of(const Tensor& x) { return x.size() / std::max<Size>(columns(x), 1); }

// ---- Work ----------------------------------------------------------------------------------------------------------
// Calls body(T{}) with the C++ type of a dtype that has arithmetic kernels.
template <class Body>
void visit_numbers(Dtype dtype, const Body& body) {
  if (dtype == Dtype::int64) body(std::int64_t{});
  else detail::visit_floating(dtype, body);
}

// body(kernels, T{}, first row, number of rows) over the threads.
template <class Body>
void over_rows(const Tensor& x, const Body& body) {
  detail::visit_floating(x.dtype(), [&]<class T>(T t) {
    kernels::parallel_for(rows_of(x), exp_grain / std::max<Size>(columns(x), 1) + 1, [&](Size begin, Size end) {
      body(kernels::rows<T>(), t, begin, end - begin);
    });
  });
}

// What does not lead to an asked tensor is not computed.
template <class Make>
Tensor if_wanted(const Ins& in, std::size_t i, const Make& make_gradient) {
  return in.wanted(i) ? make_gradient() : Tensor();
}

// y = kind(x), element by element, without a graph; and recorded under the kind's name with its rule.
Tensor apply(const char* op, kernels::Unary kind, const Tensor& x);
const char* name_of(kernels::Unary kind);
template <class Rule>
Tensor pointwise(kernels::Unary kind, const Tensor& x, Rule rule) {
  return record(name_of(kind), {x}, apply(name_of(kind), kind, x), std::move(rule));
}

}  // namespace surgeon::ops
