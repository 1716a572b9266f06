// Ops with a kernel for value and first-order rule, and the same function in plain ops for higher orders: softmax and
// its relatives, normalisation, activations that take several steps, losses. The kernels are in kernels/isa_rows.cpp.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "framework/autograd.hpp"
#include "framework/kernels/pool.hpp"
#include "framework/kernels/rows.hpp"
#include "framework/kernels/threads.hpp"
#include "framework/detail/node.hpp"
#include "framework/ops.hpp"
#include "framework/detail/require.hpp"

namespace surgeon {

using detail::data;
using detail::fresh;
using detail::make;
using detail::require;
using kernels::Rows;

namespace {

using Size = std::int64_t;
using Tensors = std::span<const Tensor>;
constexpr Size grain = 1 << 14;   // elements that are worth a thread, at about one exp each
constexpr double inf = std::numeric_limits<double>::infinity();

void require_floating(const char* op, const Tensor& x) {
  detail::require_value(op, x);
  require(is_floating(x.dtype()), op, ": ", x.dtype(), " is no floating dtype");
}
void require_same_dtype(const char* op, const Tensor& x, const char* name, const Tensor& other) {
  detail::require_value(op, other);
  require(other.dtype() == x.dtype(), op, ": ", name, " is ", other.dtype(), ", x is ", x.dtype());
}

Size columns(const Tensor& x) { return x.shape(-1); }
Size rows_of(const Tensor& x) { return x.size() / std::max<Size>(columns(x), 1); }

// body(kernels, T{}, first row, number of rows) over the threads.
template <class Body>
void over_rows(const Tensor& x, const Body& body) {
  detail::visit_floating(x.dtype(), [&](auto t) {
    kernels::parallel_for(rows_of(x), grain / std::max<Size>(columns(x), 1) + 1, [&](Size begin, Size end) {
      body(kernels::rows<decltype(t)>(), t, begin, end - begin);
    });
  });
}

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
  over_rows(x, [&](const auto& kernels, auto t, Size row, Size rows) {
    using T = decltype(t);
    const Size at = row * columns(x);
    forward(kernels)(data<T>(x) + at, rows, columns(x), fresh<T>(y) + at);
  });
  return fused(op, {x}, std::move(y), [back](const Ins&, Out y, Grad g) -> Grads {
    Tensor dx = make(y.shape(), y.dtype());
    over_rows(y, [&](const auto& kernels, auto t, Size row, Size rows) {
      using T = decltype(t);
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
  const int at = detail::checked_axis(op, axis, x.rank()), end = x.rank() - 1;
  require(x.shape(at) > 0, op, ": ", x.shape(), " has nothing along axis ", axis);
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
  over_rows(x, [&](const auto& kernel, auto t, Size row, Size rows) {
    using T = decltype(t);
    kernel.logsumexp(data<T>(x) + row * n, rows, n, fresh<T>(y) + row);
  });
  return fused("logsumexp", {x}, std::move(y), [](const Ins& in, Out y, Grad g) -> Grads {
    const Tensor& x = in[0];
    Tensor dx = make(x.shape(), x.dtype());
    const Size n = columns(x);
    over_rows(x, [&](const auto& kernel, auto t, Size row, Size rows) {
      using T = decltype(t);
      kernel.logsumexp_back(data<T>(x) + row * n, data<T>(y) + row, data<T>(g) + row, rows, n, fresh<T>(dx) + row * n);
    });
    return {dx};
  }, logsumexp_reference);
}

}  // namespace

// The reduced axes are brought to the end and made one.
Tensor logsumexp(const Tensor& x, const Over& over) {
  require_floating("logsumexp", x);
  std::vector<bool> gone(std::size_t(x.rank()), over.axes.empty());
  for (const int axis : over.axes) {
    const std::size_t at = std::size_t(detail::checked_axis("logsumexp", axis, x.rank()));
    require(!gone[at], "logsumexp: axis ", axis, " is named twice");
    gone[at] = true;
  }
  std::vector<int> order(gone.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_partition(order.begin(), order.end(), [&](int axis) { return !gone[std::size_t(axis)]; });
  Shape shape;
  Size n = 1, rows = 1;
  for (std::size_t i = 0; i < gone.size(); ++i) {
    (gone[i] ? n : rows) *= x.shape()[i];
    if (!gone[i] || over.keepdims) shape.push_back(gone[i] ? 1 : x.shape()[i]);
  }
  require(n > 0, "logsumexp: of nothing, over an axis of size 0 of ", x.shape());
  const Tensor moved = std::is_sorted(order.begin(), order.end()) ? x : permute(x, order);
  return reshape(logsumexp_rows(reshape(moved, {rows, n})), shape);
}

// ---- Normalisation ------------------------------------------------------------------------------------------------

namespace {

void require_normalisable(const char* op, const Tensor& x, double eps) {
  require_floating(op, x);
  require(x.rank() > 0 && columns(x) > 0, op, ": x of shape ", x.shape(), " has nothing along its last axis");
  require(eps > 0, op, ": eps is ", eps, ", not above 0");
}
void require_per_column(const char* op, const Tensor& x, const char* name, const Tensor& weight) {
  require_same_dtype(op, x, name, weight);
  require(weight.shape() == Shape{columns(x)}, op, ": ", name, " of shape ", weight.shape(), " for x of shape ",
          x.shape());
}

// Gradients of x and of one or two weights per column. The weights' are summed over stacks of rows, and the stacks then
// added up, so that the result is the same for any number of threads.
template <class Kernel>
Grads normalise_back(const Ins& in, Grad g, const Kernel& kernel) {
  const Tensor& x = in[0];
  constexpr Size height = 64;
  const Size n = columns(x), rows = rows_of(x), stacks = (rows + height - 1) / height;
  Tensor dx = in.wanted(0) ? make(x.shape(), x.dtype()) : Tensor();
  Grads grads = {dx};
  detail::visit_floating(x.dtype(), [&](auto t) {
    using T = decltype(t);
    const bool weights = in.wanted(1) || (in.size() > 2 && in.wanted(2));
    const Size weight_inputs = weights ? Size(in.size()) - 1 : 0;
    kernels::Scratch<T> part(weight_inputs * stacks * n);   // [gamma or beta, stacks, n]
    std::fill_n(part.data(), weight_inputs * stacks * n, T(0));
    kernels::parallel_for(stacks, grain / (height * n) + 1, [&](Size begin, Size end) {
      for (Size stack = begin; stack < end; ++stack) {
        const Size at = stack * height * n;
        kernel(kernels::rows<T>(), data<T>(x) + at, data<T>(g) + at, std::min(height, rows - stack * height),
               dx.empty() ? nullptr : fresh<T>(dx) + at, weights ? part.data() + stack * n : nullptr,
               weight_inputs > 1 ? part.data() + (stacks + stack) * n : nullptr);
      }
    });
    for (std::size_t i = 1; i < in.size(); ++i) {
      grads.push_back(in.wanted(i) ? make({n}, x.dtype()) : Tensor());
      if (in.wanted(i)) kernels::sum_columns(part.data() + Size(i - 1) * stacks * n, 1, stacks, n, fresh<T>(grads[i]));
    }
  });
  return grads;
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps) {
  require_normalisable("layer_norm", x, eps);
  require_per_column("layer_norm", x, "gamma", gamma);
  require_per_column("layer_norm", x, "beta", beta);
  Tensor y = make(x.shape(), x.dtype());
  const Size n = columns(x);
  over_rows(x, [&](const auto& kernel, auto t, Size row, Size rows) {
    using T = decltype(t);
    kernel.layer_norm(data<T>(x) + row * n, data<T>(gamma), data<T>(beta), eps, rows, n, fresh<T>(y) + row * n);
  });
  const auto rule = [eps](const Ins& in, Out, Grad g) -> Grads {
    return normalise_back(in, g, [&]<class T>(const Rows<T>& kernel, const T* x, const T* g, Size rows, T* dx,
                                              T* dgamma, T* dbeta) {
      kernel.layer_norm_back(x, data<T>(in[1]), g, eps, rows, columns(in[0]), dx, dgamma, dbeta);
    });
  };
  return fused("layer_norm", {x, gamma, beta}, std::move(y), rule, [eps](Tensors in) {
    const Tensor centred = in[0] - mean(in[0], Over{{-1}, true});
    return centred / sqrt(mean(centred * centred, Over{{-1}, true}) + eps) * in[1] + in[2];
  });
}

Tensor rms_norm(const Tensor& x, const Tensor& gamma, double eps) {
  require_normalisable("rms_norm", x, eps);
  require_per_column("rms_norm", x, "gamma", gamma);
  Tensor y = make(x.shape(), x.dtype());
  const Size n = columns(x);
  over_rows(x, [&](const auto& kernel, auto t, Size row, Size rows) {
    using T = decltype(t);
    kernel.rms_norm(data<T>(x) + row * n, data<T>(gamma), eps, rows, n, fresh<T>(y) + row * n);
  });
  const auto rule = [eps](const Ins& in, Out, Grad g) -> Grads {
    return normalise_back(in, g, [&]<class T>(const Rows<T>& kernel, const T* x, const T* g, Size rows, T* dx,
                                              T* dgamma, T*) {
      kernel.rms_norm_back(x, data<T>(in[1]), g, eps, rows, columns(in[0]), dx, dgamma);
    });
  };
  return fused("rms_norm", {x, gamma}, std::move(y), rule, [eps](Tensors in) {
    return in[0] / sqrt(mean(in[0] * in[0], Over{{-1}, true}) + eps) * in[1];
  });
}

// ---- Activations --------------------------------------------------------------------------------------------------

namespace {

// body(T{}, first, count) over the threads.
template <class Body>
void over_all(const Tensor& x, const Body& body) {
  detail::visit_floating(x.dtype(), [&](auto t) {
    kernels::parallel_for(x.size(), grain, [&](Size begin, Size end) { body(t, begin, end - begin); });
  });
}

// Element by element; value and back pick the kernels from the table.
template <class Value, class Back>
Tensor activation(const char* op, const Tensor& x, Value value, Back back, Tensor (*reference)(Tensors)) {
  require_floating(op, x);
  Tensor y = make(x.shape(), x.dtype());
  over_all(x, [&](auto t, Size at, Size n) {
    using T = decltype(t);
    value(kernels::rows<T>())(data<T>(x) + at, fresh<T>(y) + at, n);
  });
  return fused(op, {x}, std::move(y), [back](const Ins& in, Out, Grad g) -> Grads {
    const Tensor& x = in[0];
    Tensor dx = make(x.shape(), x.dtype());
    over_all(x, [&](auto t, Size at, Size n) {
      using T = decltype(t);
      back(kernels::rows<T>())(data<T>(x) + at, data<T>(g) + at, fresh<T>(dx) + at, n);
    });
    return {dx};
  }, reference);
}

Tensor gelu_exact_reference(Tensors in) { return in[0] * (0.5 + 0.5 * erf(in[0] * std::sqrt(0.5))); }
Tensor gelu_tanh_reference(Tensors in) {
  const Tensor& x = in[0];
  // (1 + tanh(u)) / 2 is sigmoid(2 u)
  return x * sigmoid(std::sqrt(8 / 3.141592653589793) * (x + 0.044715 * (x * x * x)));
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

// ---- Losses -------------------------------------------------------------------------------------------------------

namespace {

// Refuses targets that are no class; returns what each loss is multiplied by in the end.
double checked_weight(const Tensor& target, Size classes, const CrossEntropyOptions& options) {
  Size counted = 0;
  for (Size i = 0; i < target.size(); ++i) {
    const std::int64_t t = data<std::int64_t>(target)[i];
    if (t == options.ignore_index) continue;
    require<std::out_of_range>(t >= 0 && t < classes, "cross_entropy: target ", t, " at position ", i, " with ",
                               classes, " classes");
    ++counted;
  }
  return options.reduction == Reduction::mean ? 1 / double(counted) : 1.0;
}

Tensor cross_entropy_value(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options,
                           double weight) {
  const bool each = options.reduction == Reduction::none;
  Tensor y = make(each ? target.shape() : Shape{}, logits.dtype());
  kernels::Scratch<double> losses(target.size());
  over_rows(logits, [&](const auto& kernel, auto t, Size row, Size rows) {
    using T = decltype(t);
    const auto* targets = data<std::int64_t>(target);
    for (Size i = row; i < row + rows; ++i) {
      const bool counts = targets[i] != options.ignore_index;
      losses[i] = counts ? kernel.cross_entropy(data<T>(logits) + i * columns(logits), columns(logits), targets[i],
                                                options.label_smoothing)
                         : 0.0;
    }
  });
  detail::visit_floating(y.dtype(), [&](auto t) {
    using T = decltype(t);
    if (each)
      for (Size i = 0; i < target.size(); ++i) fresh<T>(y)[i] = T(losses[i]);
    else fresh<T>(y)[0] = T(kernels::rows<double>().total(losses.data(), target.size()) * weight);   // 0 * inf is nan
  });
  return y;
}

Tensor cross_entropy_reference(Tensors in, const CrossEntropyOptions& options, double weight) {
  const Size classes = columns(in[0]), n = in[1].size();
  std::vector<std::int64_t> safe(std::size_t(n), 0);
  std::vector<bool> counted(std::size_t(n), false);
  for (std::size_t i = 0; i < safe.size(); ++i) {
    const std::int64_t target = data<std::int64_t>(in[1])[i];
    counted[i] = target != options.ignore_index;
    safe[i] = counted[i] ? target : 0;
  }
  // An ignored row may hold anything, nan too.
  const Tensor ignored = reshape(!tensor(counted, {n}), {n, 1});
  const Tensor likelihood = log_softmax(masked_fill(reshape(in[0], {n, classes}), ignored, 0.0), -1);
  Tensor loss = -reshape(gather(likelihood, -1, tensor(safe, {n, 1})), {n});
  if (options.label_smoothing > 0)
    loss = (1 - options.label_smoothing) * loss - options.label_smoothing * mean(likelihood, -1);
  loss = where(tensor(counted, {n}), loss, zeros_like(loss));
  return options.reduction == Reduction::none ? reshape(loss, in[1].shape()) : sum(loss) * weight;
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options) {
  require_floating("cross_entropy", logits);
  detail::require_value("cross_entropy", target);
  require(target.dtype() == Dtype::int64, "cross_entropy: targets are ", target.dtype(), ", not int64");
  require(logits.rank() > 0 && Shape(logits.shape().begin(), logits.shape().end() - 1) == target.shape(),
          "cross_entropy: targets of shape ", target.shape(), " for logits of shape ", logits.shape());
  require(columns(logits) > 0, "cross_entropy: logits of shape ", logits.shape(), " have no classes");
  const double smoothing = options.label_smoothing;
  require(smoothing >= 0 && smoothing <= 1, "cross_entropy: label_smoothing is ", smoothing, ", not in [0, 1]");
  const double weight = checked_weight(target, columns(logits), options);

  const auto rule = [options, weight](const Ins& in, Out, Grad g) -> Grads {
    const Tensor& logits = in[0];
    Tensor dx = make(logits.shape(), logits.dtype());
    over_rows(logits, [&](const auto& kernel, auto t, Size row, Size rows) {
      using T = decltype(t);
      const auto* targets = data<std::int64_t>(in[1]);
      const Size n = columns(logits);
      for (Size i = row; i < row + rows; ++i) {
        const double up = double(data<T>(g)[options.reduction == Reduction::none ? i : 0]);
        if (targets[i] == options.ignore_index) std::fill_n(fresh<T>(dx) + i * n, n, T(0));
        else kernel.cross_entropy_back(data<T>(logits) + i * n, n, targets[i], options.label_smoothing,
                                       up * weight, fresh<T>(dx) + i * n);
      }
    });
    return {dx, Tensor()};
  };
  return fused("cross_entropy", {logits, target}, cross_entropy_value(logits, target, options, weight), rule,
               [options, weight](Tensors in) { return cross_entropy_reference(in, options, weight); });
}

Tensor mse_loss(const Tensor& x, const Tensor& target, Reduction reduction) {
  require_floating("mse_loss", x);
  require_same_dtype("mse_loss", x, "target", target);
  const Tensor difference = x - target, squares = difference * difference;
  if (reduction == Reduction::none) return squares;
  return reduction == Reduction::mean ? mean(squares) : sum(squares);
}

}  // namespace surgeon
