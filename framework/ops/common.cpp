// Broadcasting, and functions of one number without their derivatives.
#include "framework/ops/common.hpp"

namespace surgeon::ops {

Shape broadcast_shape(const char* op, const Shape& a, const Shape& b, std::ptrdiff_t matrix_axes) {
  Shape shape(a.begin(), a.end() - matrix_axes), other(b.begin(), b.end() - matrix_axes);
  if (shape.size() < other.size()) swap(shape, other);
  for (std::size_t k = 1; k <= other.size(); ++k) {
    std::int64_t& size = shape[shape.size() - k];
    const std::int64_t with = other[other.size() - k];
    require(size == with || size == 1 || with == 1, op, ": ", a, matrix_axes ? " x " : " and ", b,
            matrix_axes ? ": batch sizes " : ": sizes ", a[a.size() - std::size_t(matrix_axes) - k], " and ",
            b[b.size() - std::size_t(matrix_axes) - k], " do not broadcast");
    if (size == 1) size = with;
  }
  return shape;
}

const char* name_of(kernels::Unary kind) {
  constexpr const char* names[] = {"negate",  "abs",  "sign",     "exp", "log", "sqrt", "tanh",
                                   "sigmoid", "relu", "softplus", "erf", "sin", "cos"};
  static_assert(std::size(names) == std::size_t(kernels::Unary::count));
  return names[std::size_t(kind)];
}

Tensor apply(const char* op, kernels::Unary kind, const Tensor& x) {
  if (kind > kernels::Unary::sign) require_floating(op, x);
  else require_numbers(op, x);   // the first three have integer kernels too
  Tensor y = detail::make(x.shape(), x.dtype());
  visit_numbers(x.dtype(), [&]<class T>(T) {
    const auto kernel = kernels::elementwise<T>().unary[std::size_t(kind)];
    kernels::parallel_for(x.size(), move_grain, [&](Size begin, Size end) {
      kernel(detail::data<T>(x) + begin, detail::fresh<T>(y) + begin, end - begin);
    });
  });
  return y;
}

}  // namespace surgeon::ops
