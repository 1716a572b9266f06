// Element-by-element kernels; built once per instruction set.
#include <cmath>
#include <cstdint>

#include "framework/kernels/elementwise.hpp"
#include "framework/kernels/simd.hpp"

namespace surgeon::kernels {
namespace {

// Each function once, for a batch and for a number alike.
struct Negate { template <class T, class B> static B of(const B& x) { return -x; } };
struct Abs { template <class T, class B> static B of(const B& x) { return xsimd::abs(x); } };
struct Sign {
  template <class T, class B> static B of(const B& x) {
    const B zero(T(0)), one(T(1));
    const B signs = xsimd::select(x > zero, one, xsimd::select(x < zero, B(T(-1)), zero));
    return xsimd::select(xsimd::isnan(x), x, signs);   // xsimd 8.1's != is false for nan
  }
};
struct Exp {
  template <class T, class B> static B of(const B& x) {
    const B y = exp_gradual<T>(x);
    const auto large = x > B(T(88));   // from 88.38 on xsimd's is infinite in float32, which reaches to 88.72
    if (sizeof(T) == 8 || !xsimd::any(large)) return y;
    return xsimd::select(large, xsimd::exp(x - B(T(64))) * B(T(6.235149080811617e27)), y);   // exp(64)
  }
};
struct Log { template <class T, class B> static B of(const B& x) { return xsimd::log(x); } };
struct Sqrt { template <class T, class B> static B of(const B& x) { return xsimd::sqrt(x); } };
struct Tanh { template <class T, class B> static B of(const B& x) { return xsimd::tanh(x); } };
struct Erf { template <class T, class B> static B of(const B& x) { return xsimd::erf(x); } };
struct Sin { template <class T, class B> static B of(const B& x) { return xsimd::sin(x); } };
struct Cos { template <class T, class B> static B of(const B& x) { return xsimd::cos(x); } };
// exp of a negative number only, so that nothing overflows.
struct Sigmoid {
  template <class T, class B> static B of(const B& x) {
    const B e = exp_gradual<T>(-xsimd::abs(x)), one(T(1));
    return xsimd::select(x < B(T(0)), e, one) / (one + e);
  }
};
struct Relu {
  template <class T, class B> static B of(const B& x) { return xsimd::select(x <= B(T(0)), B(T(0)), x); }
};
// max(x, 0) + log1p(exp(-|x|))
struct Softplus {
  template <class T, class B> static B of(const B& x) {
    return Relu::of<T>(x) + xsimd::log1p(exp_gradual<T>(-xsimd::abs(x)));
  }
};

template <class F, class T>
void unary(const T* x, T* y, std::int64_t n) {
  map(x, y, n, [](const auto& v) { return F::template of<T>(v); });
}

// Integers have no batches here: the compiler does as well.
template <class F>
void unary_int64(const std::int64_t* x, std::int64_t* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = F{}(x[i]);
}
struct NegateInt { std::int64_t operator()(std::int64_t x) const { return -x; } };
struct AbsInt { std::int64_t operator()(std::int64_t x) const { return x < 0 ? -x : x; } };
struct SignInt { std::int64_t operator()(std::int64_t x) const { return (x > 0) - (x < 0); } };

struct Add { template <class T> T operator()(T a, T b) const { return a + b; } };
struct Subtract { template <class T> T operator()(T a, T b) const { return a - b; } };
struct Multiply { template <class T> T operator()(T a, T b) const { return a * b; } };
struct Divide { template <class T> T operator()(T a, T b) const { return a / b; } };
// A nan on either side comes through.
struct Maximum { template <class T> T operator()(T a, T b) const { return a != a || a > b ? a : b; } };
struct Minimum { template <class T> T operator()(T a, T b) const { return a != a || a < b ? a : b; } };
struct Equal { template <class T> bool operator()(T a, T b) const { return a == b; } };
struct NotEqual { template <class T> bool operator()(T a, T b) const { return a != b; } };
struct Less { template <class T> bool operator()(T a, T b) const { return a < b; } };
struct LessEqual { template <class T> bool operator()(T a, T b) const { return a <= b; } };
struct Greater { template <class T> bool operator()(T a, T b) const { return a > b; } };
struct GreaterEqual { template <class T> bool operator()(T a, T b) const { return a >= b; } };

// The compiler vectorises these once it knows which operand stands still.
template <class F, class T, class Y>
void binary(Run<T> a, Run<T> b, Y* y, std::int64_t n) {
  const F f;
  if (a.steps && b.steps)
    for (std::int64_t i = 0; i < n; ++i) y[i] = f(a.data[i], b.data[i]);
  else if (a.steps)
    for (std::int64_t i = 0; i < n; ++i) y[i] = f(a.data[i], b.data[0]);
  else if (b.steps)
    for (std::int64_t i = 0; i < n; ++i) y[i] = f(a.data[0], b.data[i]);
  else
    for (std::int64_t i = 0; i < n; ++i) y[i] = f(a.data[0], b.data[0]);
}

template <class T>
void select(Run<bool> condition, Run<T> a, Run<T> b, T* y, std::int64_t n) {
  if (!condition.steps) {
    const Run<T> chosen = condition.data[0] ? a : b;
    for (std::int64_t i = 0; i < n; ++i) y[i] = chosen.data[chosen.steps ? i : 0];
  } else if (a.steps && b.steps) {
    for (std::int64_t i = 0; i < n; ++i) y[i] = condition.data[i] ? a.data[i] : b.data[i];
  } else {
    for (std::int64_t i = 0; i < n; ++i)
      y[i] = condition.data[i] ? a.data[a.steps ? i : 0] : b.data[b.steps ? i : 0];
  }
}

template <class T>
constexpr Elementwise<T> table_of_floats() {
  return {{unary<Negate, T>, unary<Abs, T>, unary<Sign, T>, unary<Exp, T>, unary<Log, T>, unary<Sqrt, T>,
           unary<Tanh, T>, unary<Sigmoid, T>, unary<Relu, T>, unary<Softplus, T>, unary<Erf, T>, unary<Sin, T>,
           unary<Cos, T>},
          {binary<Add, T, T>, binary<Subtract, T, T>, binary<Multiply, T, T>, binary<Divide, T, T>,
           binary<Maximum, T, T>, binary<Minimum, T, T>},
          {binary<Equal, T, bool>, binary<NotEqual, T, bool>, binary<Less, T, bool>, binary<LessEqual, T, bool>,
           binary<Greater, T, bool>, binary<GreaterEqual, T, bool>},
          select<T>};
}

}  // namespace

namespace SURGEON_ISA {

using T = std::int64_t;
const Elementwise<float> elementwise_float = table_of_floats<float>();
const Elementwise<double> elementwise_double = table_of_floats<double>();
const Elementwise<std::int64_t> elementwise_int64 = {
    {unary_int64<NegateInt>, unary_int64<AbsInt>, unary_int64<SignInt>, nullptr, nullptr, nullptr, nullptr, nullptr,
     nullptr, nullptr, nullptr, nullptr, nullptr},
    {binary<Add, T, T>, binary<Subtract, T, T>, binary<Multiply, T, T>, nullptr, binary<Maximum, T, T>,
     binary<Minimum, T, T>},
    {binary<Equal, T, bool>, binary<NotEqual, T, bool>, binary<Less, T, bool>, binary<LessEqual, T, bool>,
     binary<Greater, T, bool>, binary<GreaterEqual, T, bool>},
    select<T>};

}  // namespace SURGEON_ISA
}  // namespace surgeon::kernels
