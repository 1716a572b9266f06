// Arithmetic, comparisons and choices, element by element: value and gradient side by side. The engine undoes the
// broadcasting of gradients. Functions of one number are in functions.cpp.
#include <algorithm>
#include <cmath>

#include "framework/kernels/strides.hpp"
#include "framework/ops.hpp"
#include "framework/ops/common.hpp"

namespace surgeon {

using kernels::Binary;
using kernels::Compare;
using kernels::Run;
using kernels::Unary;
using namespace ops;

namespace {

// A plain number in the tensor's own dtype.
template <class T>
T adopt(const char* op, double number) {
  if constexpr (std::is_integral_v<T>)
    require(number == std::floor(number) && std::abs(number) < 9.2e18, op, ": an int64 tensor cannot hold ",
            number);
  return T(number);
}

// kernel(run of a, run of b, y, n) over a and b broadcast to y.
template <class T, class Y, class Kernel>
void over_pairs(const Tensor& a, const Tensor& b, const Tensor& y, const Kernel& kernel) {
  const auto simple = [&](bool a_steps, bool b_steps) {
    kernels::parallel_for(y.size(), move_grain, [&](std::int64_t begin, std::int64_t end) {
      kernel(Run<T>{data<T>(a) + (a_steps ? begin : 0), a_steps}, Run<T>{data<T>(b) + (b_steps ? begin : 0), b_steps},
             fresh<Y>(y) + begin, end - begin);
    });
  };
  if (a.shape() == b.shape()) return simple(true, true);
  if (b.size() == 1) return simple(true, false);
  if (a.size() == 1) return simple(false, true);
  const kernels::Walk<3> walk(y.shape(), {kernels::broadcast_strides(a.shape(), y.shape()),
                                          kernels::broadcast_strides(b.shape(), y.shape()),
                                          kernels::broadcast_strides(y.shape(), y.shape())});
  walk.run(move_grain, [&](const auto& at, std::int64_t n) {
    kernel(Run<T>{data<T>(a) + at[0], walk.step(0) != 0}, Run<T>{data<T>(b) + at[1], walk.step(1) != 0},
           fresh<Y>(y) + at[2], n);
  });
}

const char* name_of(Binary kind) {
  constexpr const char* names[] = {"add", "subtract", "multiply", "divide", "maximum", "minimum"};
  static_assert(std::size(names) == std::size_t(Binary::count));
  return names[std::size_t(kind)];
}
const char* name_of(Compare kind) {
  constexpr const char* names[] = {"==", "!=", "<", "<=", ">", ">="};
  static_assert(std::size(names) == std::size_t(Compare::count));
  return names[std::size_t(kind)];
}

// ---- Values, without a graph ---------------------------------------------------------------------------------------

void require_operand(const char* op, Binary kind, const Tensor& x) {
  if (kind == Binary::divide) require_floating(op, x);
  else require_numbers(op, x);
}

Tensor apply(Binary kind, const Tensor& a, const Tensor& b) {
  const char* op = name_of(kind);
  require_operand(op, kind, a);
  require_same_dtype(op, a, b);
  Tensor y = make(a.shape() == b.shape() ? a.shape() : broadcast_shape(op, a.shape(), b.shape()), a.dtype());
  visit_numbers(a.dtype(), [&]<class T>(T) {
    over_pairs<T, T>(a, b, y, kernels::elementwise<T>().binary[std::size_t(kind)]);
  });
  return y;
}

enum class Number { first, second };   // which operand it is

Tensor apply(const char* op, Binary kind, const Tensor& x, double number, Number place) {
  require_operand(op, kind, x);
  Tensor y = make(x.shape(), x.dtype());
  visit_numbers(x.dtype(), [&]<class T>(T) {
    const T value = adopt<T>(op, number);
    const auto kernel = kernels::elementwise<T>().binary[std::size_t(kind)];
    kernels::parallel_for(x.size(), move_grain, [&](std::int64_t begin, std::int64_t end) {
      const Run<T> run{data<T>(x) + begin, true}, constant{&value, false};
      if (place == Number::first) kernel(constant, run, fresh<T>(y) + begin, end - begin);
      else kernel(run, constant, fresh<T>(y) + begin, end - begin);
    });
  });
  return y;
}

// ---- Recorded under the kind's name, with a rule -------------------------------------------------------------------

template <class Rule> Tensor binary(Binary kind, const Tensor& a, const Tensor& b, Rule rule) {
  return record(name_of(kind), {a, b}, apply(kind, a, b), rule);
}
template <class Rule> Tensor binary(Binary kind, const Tensor& x, double number, Rule rule) {
  return record(name_of(kind), {x}, apply(name_of(kind), kind, x, number, Number::second), rule);
}
template <class Rule> Tensor binary(Binary kind, double number, const Tensor& x, Rule rule) {
  return record(name_of(kind), {x}, apply(name_of(kind), kind, x, number, Number::first), rule);
}

Tensor compare(Compare kind, const Tensor& a, const Tensor& b) {
  const char* op = name_of(kind);
  require_value(op, a);
  require_same_dtype(op, a, b);
  if (a.dtype() == Dtype::boolean) return compare(kind, a.to(Dtype::int64), b.to(Dtype::int64));
  const Tensor y = make(broadcast_shape(op, a.shape(), b.shape()), Dtype::boolean);
  visit_numbers(a.dtype(), [&]<class T>(T) {
    over_pairs<T, bool>(a, b, y, kernels::elementwise<T>().compare[std::size_t(kind)]);
  });
  return y;
}

Tensor compare(Compare kind, const Tensor& x, double number) {
  const char* op = name_of(kind);
  require_value(op, x);
  if (x.dtype() == Dtype::boolean) return compare(kind, x.to(Dtype::int64), number);
  const Tensor y = make(x.shape(), Dtype::boolean);
  visit_numbers(x.dtype(), [&]<class T>(T) {
    const T value = T(number);
    if (double(value) != number && std::is_integral_v<T>) adopt<T>(op, number);
    kernels::elementwise<T>().compare[std::size_t(kind)]({data<T>(x), true}, {&value, false}, fresh<bool>(y), x.size());
  });
  return y;
}

// A mask as booleans: float masks may hold 0 and 1 only.
Tensor as_mask(const char* op, const Tensor& mask) {
  require_value(op, mask);
  if (mask.dtype() == Dtype::boolean) return mask;
  require(is_floating(mask.dtype()), op, ": the mask must be boolean, or float with 0 and 1, not ", mask.dtype());
  detail::visit_floating(mask.dtype(), [&]<class T>(T) {
    const auto* values = data<T>(mask);
    for (std::int64_t i = 0; i < mask.size(); ++i)
      require(values[i] == 0 || values[i] == 1, op, ": the mask holds ", values[i], ", not 0 or 1");
  });
  return mask.to(Dtype::boolean);
}

Tensor select(const Tensor& condition, const Tensor& a, const Tensor& b, Shape shape) {
  Tensor y = make(std::move(shape), a.dtype());
  const auto strides = [&](const Tensor& x) { return kernels::broadcast_strides(x.shape(), y.shape()); };
  const kernels::Walk<4> walk(y.shape(), {strides(condition), strides(a), strides(b), strides(y)});
  visit_numbers(a.dtype(), [&]<class T>(T) {
    const auto kernel = kernels::elementwise<T>().select;
    walk.run(move_grain, [&](const auto& at, std::int64_t n) {
      kernel({data<bool>(condition) + at[0], walk.step(0) != 0}, {data<T>(a) + at[1], walk.step(1) != 0},
             {data<T>(b) + at[2], walk.step(2) != 0}, fresh<T>(y) + at[3], n);
    });
  });
  return y;
}

}  // namespace

// ---- Arithmetic ----------------------------------------------------------------------------------------------------

Tensor operator+(const Tensor& a, const Tensor& b) {
  return binary(Binary::add, a, b, [](const Ins& in, Out, Grad g) -> Grads {
    return {in.wanted(0) ? g : Tensor(), in.wanted(1) ? g : Tensor()};
  });
}
Tensor operator-(const Tensor& a, const Tensor& b) {
  return binary(Binary::subtract, a, b, [](const Ins& in, Out, Grad g) -> Grads {
    return {g, if_wanted(in, 1, [&] { return -g; })};
  });
}
Tensor operator*(const Tensor& a, const Tensor& b) {
  return binary(Binary::multiply, a, b, [](const Ins& in, Out, Grad g) -> Grads {
    return {if_wanted(in, 0, [&] { return g * in[1]; }), if_wanted(in, 1, [&] { return g * in[0]; })};
  });
}
Tensor operator/(const Tensor& a, const Tensor& b) {
  return binary(Binary::divide, a, b, [](const Ins& in, Out y, Grad g) -> Grads {
    return {if_wanted(in, 0, [&] { return g / in[1]; }), if_wanted(in, 1, [&] { return -g * y / in[1]; })};
  });
}

Tensor operator+(const Tensor& a, double b) {
  return binary(Binary::add, a, b, [](const Ins&, Out, Grad g) -> Grads { return {g}; });
}
Tensor operator-(const Tensor& a, double b) {
  return binary(Binary::subtract, a, b, [](const Ins&, Out, Grad g) -> Grads { return {g}; });
}
Tensor operator*(const Tensor& a, double b) {
  return binary(Binary::multiply, a, b, [b](const Ins&, Out, Grad g) -> Grads { return {g * b}; });
}
Tensor operator/(const Tensor& a, double b) {
  return binary(Binary::divide, a, b, [b](const Ins&, Out, Grad g) -> Grads { return {g / b}; });
}
Tensor operator+(double a, const Tensor& b) { return b + a; }
Tensor operator-(double a, const Tensor& b) {
  return binary(Binary::subtract, a, b, [](const Ins&, Out, Grad g) -> Grads { return {-g}; });
}
Tensor operator*(double a, const Tensor& b) { return b * a; }
Tensor operator/(double a, const Tensor& b) {
  return binary(Binary::divide, a, b, [](const Ins& in, Out y, Grad g) -> Grads { return {-g * y / in[0]}; });
}
Tensor operator-(const Tensor& x) {
  return pointwise(Unary::negate, x, [](const Ins&, Out, Grad g) -> Grads { return {-g}; });
}

// ---- Comparisons ---------------------------------------------------------------------------------------------------

Tensor operator==(const Tensor& a, const Tensor& b) { return compare(Compare::equal, a, b); }
Tensor operator!=(const Tensor& a, const Tensor& b) { return compare(Compare::not_equal, a, b); }
Tensor operator<(const Tensor& a, const Tensor& b) { return compare(Compare::less, a, b); }
Tensor operator<=(const Tensor& a, const Tensor& b) { return compare(Compare::less_equal, a, b); }
Tensor operator>(const Tensor& a, const Tensor& b) { return compare(Compare::greater, a, b); }
Tensor operator>=(const Tensor& a, const Tensor& b) { return compare(Compare::greater_equal, a, b); }
Tensor operator==(const Tensor& a, double b) { return compare(Compare::equal, a, b); }
Tensor operator!=(const Tensor& a, double b) { return compare(Compare::not_equal, a, b); }
Tensor operator<(const Tensor& a, double b) { return compare(Compare::less, a, b); }
Tensor operator<=(const Tensor& a, double b) { return compare(Compare::less_equal, a, b); }
Tensor operator>(const Tensor& a, double b) { return compare(Compare::greater, a, b); }
Tensor operator>=(const Tensor& a, double b) { return compare(Compare::greater_equal, a, b); }
Tensor operator!(const Tensor& mask) {
  require_value("!", mask);
  require(mask.dtype() == Dtype::boolean, "!: needs a boolean tensor, not ", mask.dtype());
  return mask.to(Dtype::int64) == 0.0;
}
Tensor isnan(const Tensor& x) { return x != x; }

// ---- Converting --------------------------------------------------------------------------------------------------

Tensor Tensor::to(Dtype target) const {
  require_value("to", *this);
  if (target == dtype()) return *this;
  Tensor y = make(shape(), target);
  detail::visit_dtype(dtype(), [&]<class From>(From) {
    detail::visit_dtype(target, [&]<class To>(To) {
      const auto* x = data<From>(*this);
      std::transform(x, x + size(), fresh<To>(y), [](auto v) { return To(v); });
    });
  });
  if (!is_floating(dtype()) || !is_floating(target)) return y;
  return record("to", {*this}, y, [from = dtype()](const Ins&, Out, Grad g) -> Grads { return {g.to(from)}; });
}

// ---- Choosing ------------------------------------------------------------------------------------------------------

Tensor clamp(const Tensor& x, double low, double high) {
  require(low <= high, "clamp: low is ", low, " and high is ", high, "; low must be at most high");
  Tensor value = apply("clamp", Binary::minimum, apply("clamp", Binary::maximum, x, low, Number::second), high,
                       Number::second);
  return record("clamp", {x}, std::move(value), [low, high](const Ins& in, Out, Grad g) -> Grads {
    return {masked_fill(masked_fill(g, in[0] < low, 0.0), in[0] > high, 0.0)};
  });
}

namespace {

// The gradient of the winner of a and b; `lost` says where it lost, a tie gives half.
Tensor shared_by_ties(const Tensor& g, const Tensor& a, const Tensor& b, const Tensor& lost) {
  return masked_fill(where(a == b, g * 0.5, g), lost, 0.0);
}

}  // namespace

Tensor maximum(const Tensor& a, const Tensor& b) {
  return binary(Binary::maximum, a, b, [](const Ins& in, Out, Grad g) -> Grads {
    return {shared_by_ties(g, in[0], in[1], in[0] < in[1]), shared_by_ties(g, in[0], in[1], in[1] < in[0])};
  });
}
Tensor minimum(const Tensor& a, const Tensor& b) {
  return binary(Binary::minimum, a, b, [](const Ins& in, Out, Grad g) -> Grads {
    return {shared_by_ties(g, in[0], in[1], in[0] > in[1]), shared_by_ties(g, in[0], in[1], in[1] > in[0])};
  });
}

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  require_value("where", condition);
  require_numbers("where", a);
  require_numbers("where", b);
  require(condition.dtype() == Dtype::boolean, "where: the condition must be boolean, not ", condition.dtype());
  require_same_dtype("where", a, b);
  Shape shape = broadcast_shape("where", broadcast_shape("where", a.shape(), b.shape()), condition.shape());
  return record("where", {condition, a, b}, select(condition, a, b, std::move(shape)),
                [](const Ins& in, Out, Grad g) -> Grads {
                  return {Tensor(), if_wanted(in, 1, [&] { return masked_fill(g, !in[0], 0.0); }),
                          if_wanted(in, 2, [&] { return masked_fill(g, in[0], 0.0); })};
                });
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, double value) {
  require_numbers("masked_fill", x);
  const Tensor filled = as_mask("masked_fill", mask);
  require(broadcasts_to(mask.shape(), x.shape()), "masked_fill: a mask of shape ", mask.shape(),
          " does not broadcast to ", x.shape());
  return record("masked_fill", {x, filled}, select(filled, full({}, value, x.dtype()), x, x.shape()),
                [](const Ins& in, Out, Grad g) -> Grads { return {masked_fill(g, in[1], 0.0), Tensor()}; });
}

Tensor dropout(const Tensor& x, double p, Rng& rng) {
  require_floating("dropout", x);
  require(p >= 0.0 && p <= 1.0, "dropout: p must be between 0 and 1, not ", p);
  if (p == 0.0) return x;
  const Tensor dropped = rand(x.shape(), rng) < p;
  return masked_fill(p < 1.0 ? x / (1.0 - p) : x, dropped, 0.0);
}

// ---- For the engine ------------------------------------------------------------------------------------------------

namespace detail {

Tensor alias(const Tensor& x) {
  return record("alias", {x}, share(x, x.shape()), [](const Ins&, Out, Grad g) -> Grads { return {g}; });
}

Tensor add_into(Tensor a, const Tensor& b) {
  Node& node = a.node();
  const bool mine = node.references.load(std::memory_order_acquire) == 1 && !node.step &&
                    (!node.buffer || (node.buffer->bytes > 0 &&   // 0: somebody else's memory
                                      node.buffer->references.load(std::memory_order_acquire) == 1));
  if (!mine || recording() || a.shape() != b.shape()) return a + b;
  visit_floating(a.dtype(), [&]<class T>(T) {
    over_pairs<T, T>(a, b, a, kernels::elementwise<T>().binary[std::size_t(Binary::add)]);
  });
  return a;
}

}  // namespace detail
}  // namespace surgeon
