// Softmax, log_softmax and logsumexp: a kernel for value and first derivative, plain ops for higher ones.
#include <limits>

#include "framework/ops.hpp"
#include "framework/ops/common.hpp"
#include "framework/ops/reduced.hpp"

namespace surgeon {

using namespace ops;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();

// True for the rows that are -inf throughout, of which `top` is the largest.
Tensor dead_rows(const Tensor& top) { return top == -inf; }

// x minus its row's largest, and that with 0 in its place for dead rows, so that nothing below is nan. The result does
// not depend on what is subtracted, so no gradient flows through it.
Tensor shifted(const Tensor& x, Tensor& top, Tensor& dead) {
  top = stop_gradient(max(x, Over{{-1}, true}));
  dead = dead_rows(top);
  top = where(dead, zeros_like(top), top);
  return x - top;
}

Tensor softmax_reference(Tensors in) {
  Tensor top, dead;
  const Tensor e = exp(shifted(in[0], top, dead));
  const Tensor total = sum(e, Over{{-1}, true});
  return where(dead, zeros_like(total), e / where(dead, ones_like(total), total));
}

Tensor log_of_sum(const Tensor& below, const Tensor& dead) {
  const Tensor total = sum(exp(below), Over{{-1}, true});
  return log(where(dead, ones_like(total), total));
}

Tensor log_softmax_reference(Tensors in) {
  Tensor top, dead;
  const Tensor below = shifted(in[0], top, dead);
  return where(dead, full(top.shape(), -inf, top.dtype()), below - log_of_sum(below, dead));
}

Tensor logsumexp_reference(Tensors in) {   // [rows, n] -> [rows]
  Tensor top, dead;
  const Tensor below = shifted(in[0], top, dead);
  const Tensor y = where(dead, full(top.shape(), -inf, top.dtype()), top + log_of_sum(below, dead));
  return reshape(y, {y.size()});
}

// An op over the last axis: forward and back pick its kernels from the table, and back takes the value.
template <class Forward, class Back>
Tensor over_last_axis(const char* op, const Tensor& x, Forward forward, Back back, Tensor (*reference)(Tensors)) {
  Tensor y = make(x.shape(), x.dtype());
  over_rows(x, [&]<class T>(const kernels::Rows<T>& kernels, T, Size row, Size rows) {
    const Size at = row * columns(x);
    forward(kernels)(data<T>(x) + at, rows, columns(x), fresh<T>(y) + at);
  });
  return fused(op, {x}, std::move(y), [back](const Ins&, Out y, Grad g) -> Grads {
    Tensor dx = make(y.shape(), y.dtype());
    over_rows(y, [&]<class T>(const kernels::Rows<T>& kernels, T, Size row, Size rows) {
      const Size at = row * columns(y);
      back(kernels)(data<T>(y) + at, data<T>(g) + at, rows, columns(y), fresh<T>(dx) + at);
    });
    return {dx};
  }, reference);
}

// Any other axis is brought to the end and back.
template <class Op>
Tensor along(const char* op, const Tensor& x, int axis, const Op& last) {
  require_floating(op, x);
  const int at = checked_axis(op, axis, x.rank()), end = x.rank() - 1;
  require(x.shape(at) > 0, op, ": axis ", axis, " of ", x.shape(), " has size 0");
  return at == end ? last(x) : transpose(last(transpose(x, at, end)), at, end);
}

}  // namespace

Tensor softmax(const Tensor& x, int axis) {
  return along("softmax", x, axis, [](const Tensor& x) {
    return over_last_axis("softmax", x, [](const auto& kernels) { return kernels.softmax; },
                          [](const auto& kernels) { return kernels.softmax_back; }, softmax_reference);
  });
}

Tensor log_softmax(const Tensor& x, int axis) {
  return along("log_softmax", x, axis, [](const Tensor& x) {
    return over_last_axis("log_softmax", x, [](const auto& kernels) { return kernels.log_softmax; },
                          [](const auto& kernels) { return kernels.log_softmax_back; }, log_softmax_reference);
  });
}

namespace {

Tensor logsumexp_rows(const Tensor& x) {   // [rows, n] -> [rows]
  Tensor y = make({x.shape(0)}, x.dtype());
  const Size n = columns(x);
  over_rows(x, [&]<class T>(const kernels::Rows<T>& kernel, T, Size row, Size rows) {
    kernel.logsumexp(data<T>(x) + row * n, rows, n, fresh<T>(y) + row);
  });
  return fused("logsumexp", {x}, std::move(y), [](const Ins& in, Out y, Grad g) -> Grads {
    const Tensor& x = in[0];
    Tensor dx = make(x.shape(), x.dtype());
    const Size n = columns(x);
    over_rows(x, [&]<class T>(const kernels::Rows<T>& kernel, T, Size row, Size rows) {
      kernel.logsumexp_back(data<T>(x) + row * n, data<T>(y) + row, data<T>(g) + row, rows, n, fresh<T>(dx) + row * n);
    });
    return {dx};
  }, logsumexp_reference);
}

}  // namespace

// The reduced axes are brought to the end and made one.
Tensor logsumexp(const Tensor& x, const Over& over) {
  require_floating("logsumexp", x);
  const Reduced reduced("logsumexp", x, over);
  require_elements("logsumexp", x, reduced);
  const Tensor rows = reshape(reduced.as_rows(x), {x.size() / reduced.n, reduced.n});
  return reshape(logsumexp_rows(rows), reduced.shape);
}

}  // namespace surgeon
