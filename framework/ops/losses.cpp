// cross_entropy and mse_loss.
#include <algorithm>

#include "framework/kernels/pool.hpp"
#include "framework/ops.hpp"
#include "framework/ops/common.hpp"

namespace surgeon {

using namespace ops;

namespace {

// Refuses targets that are no class; returns what each loss is multiplied by in the end.
double checked_weight(const Tensor& target, Size classes, const CrossEntropyOptions& options) {
  Size counted = 0;
  for (Size i = 0; i < target.size(); ++i) {
    const std::int64_t t = data<std::int64_t>(target)[i];
    if (t == options.ignore_index) continue;
    require<std::out_of_range>(t >= 0 && t < classes, "cross_entropy: target ", t, " at position ", i,
                               " is out of range for ", classes, " classes");
    ++counted;
  }
  return options.reduction == Reduction::mean ? 1 / double(counted) : 1.0;
}

Tensor cross_entropy_value(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options,
                           double weight) {
  const bool each = options.reduction == Reduction::none;
  Tensor y = make(each ? target.shape() : Shape{}, logits.dtype());
  kernels::Scratch<double> losses(target.size());
  over_rows(logits, [&]<class T>(const kernels::Rows<T>& kernel, T, Size row, Size rows) {
    const auto* targets = data<std::int64_t>(target);
    for (Size i = row; i < row + rows; ++i) {
      const bool counts = targets[i] != options.ignore_index;
      losses[i] = counts ? kernel.cross_entropy(data<T>(logits) + i * columns(logits), columns(logits), targets[i],
                                                options.label_smoothing)
                         : 0.0;
    }
  });
  detail::visit_floating(y.dtype(), [&]<class T>(T) {
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
  require_value("cross_entropy", target);
  require(target.dtype() == Dtype::int64, "cross_entropy: targets must be int64, not ", target.dtype());
  require(logits.rank() > 0 && Shape(logits.shape().begin(), logits.shape().end() - 1) == target.shape(),
          "cross_entropy: targets of shape ", target.shape(), " do not fit logits of shape ", logits.shape());
  require(columns(logits) > 0, "cross_entropy: logits of shape ", logits.shape(), " have no classes");
  const double smoothing = options.label_smoothing;
  require(smoothing >= 0 && smoothing <= 1, "cross_entropy: label_smoothing must be between 0 and 1, not ",
          smoothing);
  const double weight = checked_weight(target, columns(logits), options);

  const auto rule = [options, weight](const Ins& in, Out, Grad g) -> Grads {
    const Tensor& logits = in[0];
    Tensor dx = make(logits.shape(), logits.dtype());
    over_rows(logits, [&]<class T>(const kernels::Rows<T>& kernel, T, Size row, Size rows) {
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
