// Functions of one number, value and derivative side by side.
#include <cmath>
#include <numbers>

#include "framework/ops.hpp"
#include "framework/ops/common.hpp"

namespace surgeon {

using kernels::Unary;
using namespace ops;

Tensor abs(const Tensor& x) {
  return pointwise(Unary::abs, x, [](const Ins& in, Out, Grad g) -> Grads { return {g * sign(in[0])}; });
}
Tensor sign(const Tensor& x) {
  return pointwise(Unary::sign, x, [](const Ins&, Out, Grad) -> Grads { return {Tensor()}; });
}
Tensor exp(const Tensor& x) {
  return pointwise(Unary::exp, x, [](const Ins&, Out y, Grad g) -> Grads { return {g * y}; });
}
Tensor log(const Tensor& x) {
  return pointwise(Unary::log, x, [](const Ins& in, Out, Grad g) -> Grads { return {g / in[0]}; });
}
Tensor sqrt(const Tensor& x) {
  return pointwise(Unary::sqrt, x, [](const Ins&, Out y, Grad g) -> Grads { return {g / (y * 2.0)}; });
}
Tensor tanh(const Tensor& x) {
  return pointwise(Unary::tanh, x, [](const Ins&, Out y, Grad g) -> Grads { return {g * (1.0 - y * y)}; });
}
Tensor sigmoid(const Tensor& x) {
  return pointwise(Unary::sigmoid, x, [](const Ins&, Out y, Grad g) -> Grads { return {g * (y * (1.0 - y))}; });
}
Tensor relu(const Tensor& x) {
  return pointwise(Unary::relu, x, [](const Ins& in, Out, Grad g) -> Grads {
    return {masked_fill(g, in[0] <= 0.0, 0.0)};
  });
}
Tensor softplus(const Tensor& x) {
  return pointwise(Unary::softplus, x, [](const Ins& in, Out, Grad g) -> Grads { return {g * sigmoid(in[0])}; });
}
Tensor erf(const Tensor& x) {
  return pointwise(Unary::erf, x, [](const Ins& in, Out, Grad g) -> Grads {
    return {g * (exp(-(in[0] * in[0])) * (2.0 * std::numbers::inv_sqrtpi))};
  });
}
Tensor erfc(const Tensor& x) {
  return pointwise(Unary::erfc, x, [](const Ins& in, Out, Grad g) -> Grads {
    return {g * (exp(-(in[0] * in[0])) * (-2.0 * std::numbers::inv_sqrtpi))};
  });
}
Tensor sin(const Tensor& x) {
  return pointwise(Unary::sin, x, [](const Ins& in, Out, Grad g) -> Grads { return {g * cos(in[0])}; });
}
Tensor cos(const Tensor& x) {
  return pointwise(Unary::cos, x, [](const Ins& in, Out, Grad g) -> Grads { return {-g * sin(in[0])}; });
}

Tensor log1p(const Tensor& x) {
  return pointwise(Unary::log1p, x, [](const Ins& in, Out, Grad g) -> Grads { return {g / (in[0] + 1.0)}; });
}
Tensor expm1(const Tensor& x) {
  return pointwise(Unary::expm1, x, [](const Ins&, Out y, Grad g) -> Grads { return {g * (y + 1.0)}; });
}
Tensor floor(const Tensor& x) {
  return pointwise(Unary::floor, x, [](const Ins&, Out, Grad) -> Grads { return {Tensor()}; });
}
Tensor ceil(const Tensor& x) {
  return pointwise(Unary::ceil, x, [](const Ins&, Out, Grad) -> Grads { return {Tensor()}; });
}
Tensor round(const Tensor& x) {
  return pointwise(Unary::round, x, [](const Ins&, Out, Grad) -> Grads { return {Tensor()}; });
}

Tensor leaky_relu(const Tensor& x, double slope) {
  require_floating("leaky_relu", x);
  return where(x > 0.0, x, x * slope);
}
Tensor elu(const Tensor& x, double alpha) {
  require_floating("elu", x);
  const Tensor positive = x > 0.0;   // there exp could overflow, and its gradient must stay 0 times a number
  return where(positive, x, expm1(masked_fill(x, positive, 0.0)) * alpha);
}

namespace {

Tensor powers(const Tensor& x, double p) {
  require_floating("pow", x);
  const NoRecord pause;
  if (p == 2.0) return x * x;
  if (p == 0.5) return apply("pow", Unary::sqrt, x);
  Tensor y = make(x.shape(), x.dtype());
  detail::visit_floating(x.dtype(), [&]<class T>(T) {
    kernels::parallel_for(x.size(), move_grain / 16, [&](Size begin, Size end) {
      for (Size i = begin; i < end; ++i) fresh<T>(y)[i] = p == 1.0 ? data<T>(x)[i] : std::pow(data<T>(x)[i], T(p));
    });
  });
  return y;
}

}  // namespace

Tensor pow(const Tensor& x, double p) {
  return record("pow", {x}, powers(x, p), [p](const Ins& in, Out, Grad g) -> Grads {
    if (p == 0.0) return {Tensor()};   // a constant; 0 * x^-1 would be nan at 0
    return {g * (pow(in[0], p - 1.0) * p)};
  });
}

namespace {

Tensor powers(const Tensor& a, const Tensor& b) {
  const NoRecord pause;
  const Shape shape = broadcast_shape("pow", a.shape(), b.shape());
  const Tensor x = broadcast_to(a, shape), p = broadcast_to(b, shape);
  Tensor y = make(shape, a.dtype());
  detail::visit_floating(a.dtype(), [&]<class T>(T) {
    kernels::parallel_for(y.size(), move_grain / 16, [&](Size begin, Size end) {
      for (Size i = begin; i < end; ++i) fresh<T>(y)[i] = std::pow(data<T>(x)[i], data<T>(p)[i]);
    });
  });
  return y;
}

}  // namespace

Tensor pow(const Tensor& a, const Tensor& b) {
  require_floating("pow", a);
  require_floating("pow", b);
  require_same_dtype("pow", a, b);
  return record("pow", {a, b}, powers(a, b), [](const Ins& in, Out y, Grad g) -> Grads {
    const Tensor &x = in[0], &p = in[1];
    const auto by_base = [&] { return masked_fill(g * p * pow(x, p - 1.0), p == 0.0, 0.0); };
    const auto by_exponent = [&] {   // 0^p stays 0 for every p above 0; below, -inf
      const Tensor flat = x == 0.0 && p >= 0.0;
      return masked_fill(g * y * log(where(flat, full({}, 1.0, x.dtype()), x)), flat, 0.0);
    };
    return {if_wanted(in, 0, by_base), if_wanted(in, 1, by_exponent)};
  });
}

Tensor pow(double a, const Tensor& b) { return pow(full({}, a, b.dtype()), b); }

// ---- Activations that take several steps -----------------------------------------------------------------------

namespace {

// body(T{}, first, count) over the threads.
template <class Body>
void over_all(const Tensor& x, const Body& body) {
  detail::visit_floating(x.dtype(), [&]<class T>(T t) {
    kernels::parallel_for(x.size(), exp_grain, [&](Size begin, Size end) { body(t, begin, end - begin); });
  });
}

// Element by element; value and back pick the kernels from the table.
template <class Value, class Back>
Tensor activation(const char* op, const Tensor& x, Value value, Back back, Tensor (*reference)(Tensors)) {
  require_floating(op, x);
  Tensor y = make(x.shape(), x.dtype());
  over_all(x, [&]<class T>(T, Size at, Size n) {
    value(kernels::rows<T>())(data<T>(x) + at, fresh<T>(y) + at, n);
  });
  return fused(op, {x}, std::move(y), [back](const Ins& in, Out, Grad g) -> Grads {
    const Tensor& x = in[0];
    Tensor dx = make(x.shape(), x.dtype());
    over_all(x, [&]<class T>(T, Size at, Size n) {
      back(kernels::rows<T>())(data<T>(x) + at, data<T>(g) + at, fresh<T>(dx) + at, n);
    });
    return {dx};
  }, reference);
}

Tensor gelu_exact_reference(Tensors in) { return in[0] * (0.5 * erfc(in[0] * -std::sqrt(0.5))); }
Tensor gelu_tanh_reference(Tensors in) {
  const Tensor& x = in[0];
  // (1 + tanh(u)) / 2 is sigmoid(2 u)
  return x * sigmoid(std::sqrt(8 / std::numbers::pi) * (x + 0.044715 * (x * x * x)));
}
Tensor silu_reference(Tensors in) { return in[0] * sigmoid(in[0]); }

}  // namespace

Tensor gelu(const Tensor& x, Gelu kind) {
  if (kind == Gelu::exact)
    return activation("gelu", x, [](const auto& kernels) { return kernels.gelu; },
                      [](const auto& kernels) { return kernels.gelu_back; }, gelu_exact_reference);
  return activation("gelu", x, [](const auto& kernels) { return kernels.gelu_tanh; },
                    [](const auto& kernels) { return kernels.gelu_tanh_back; }, gelu_tanh_reference);
}

Tensor silu(const Tensor& x) {
  return activation("silu", x, [](const auto& kernels) { return kernels.silu; },
                    [](const auto& kernels) { return kernels.silu_back; }, silu_reference);
}

}  // namespace surgeon
