// Losses by class (cross_entropy, nll_loss) and by element.
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

void require_classes(const char* op, const Tensor& scores, const Tensor& target) {
  require_floating(op, scores);
  require_value(op, target);
  require(target.dtype() == Dtype::int64, op, ": targets must be int64, not ", target.dtype());
  require(scores.rank() > 0 && Shape(scores.shape().begin(), scores.shape().end() - 1) == target.shape(), op,
          ": targets of shape ", target.shape(), " do not fit logits of shape ", scores.shape());
  require(columns(scores) > 0, op, ": logits of shape ", scores.shape(), " have no classes");
}

// What the losses by class share: targets that may be ignored, a weight for each class.
struct Classes {
  Classes(const char* op, const Tensor& scores, const Tensor& target, std::int64_t ignore_index, const Tensor& weights) {
    require_classes(op, scores, target);
    const Size C = columns(scores), n = target.size();
    std::vector<std::int64_t> safe(std::size_t(n), 0);
    std::vector<bool> ignores(std::size_t(n), false);
    for (Size i = 0; i < n; ++i) {
      const std::int64_t t = data<std::int64_t>(target)[i];
      ignores[std::size_t(i)] = t == ignore_index;
      if (t == ignore_index) continue;
      require<std::out_of_range>(t >= 0 && t < C, op, ": target ", t, " at position ", i, " with ", C, " classes");
      safe[std::size_t(i)] = t;
    }
    index = tensor(safe, {n, 1});
    ignored = tensor(ignores, {n, 1});
    if (weights.empty()) {
      weight = ones({n}, scores.dtype());
    } else {
      require(weights.shape() == Shape{C} && weights.dtype() == scores.dtype(), op, ": class weights ", weights.dtype(), " ",
              weights.shape(), " for ", C, " classes of ", scores.dtype());
      weight = reshape(gather(broadcast_to(weights, {n, C}), -1, index), {n});
    }
    weight = masked_fill(weight, reshape(ignored, {n}), 0.0);
  }
  // An ignored row may hold anything, nan too.
  Tensor rows(const Tensor& scores) const {
    return masked_fill(reshape(scores, {index.size(), columns(scores)}), ignored, 0.0);
  }
  Tensor picked(const Tensor& rows) const { return reshape(gather(rows, -1, index), {index.size()}); }

  Tensor index, ignored;   // [n, 1]
  Tensor weight;           // [n]: of each target's class, 0 where it is ignored
};

Tensor reduced(const Tensor& losses, Reduction reduction, const Shape& shape, const Tensor& weight) {
  if (reduction == Reduction::none) return reshape(losses, shape);
  return reduction == Reduction::mean ? sum(losses) / sum(weight) : sum(losses);
}

Tensor weighted_cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options) {
  const Classes classes("cross_entropy", logits, target, options.ignore_index, options.class_weights);
  const Tensor likelihood = log_softmax(classes.rows(logits), -1);   // [n, C]
  Tensor losses = -classes.picked(likelihood) * classes.weight;
  if (options.label_smoothing > 0) {
    const Tensor counted = masked_fill(likelihood, classes.ignored, 0.0);
    const Tensor spread = -mean(counted * options.class_weights, -1);
    losses = (1 - options.label_smoothing) * losses + options.label_smoothing * spread;
  }
  return reduced(losses, options.reduction, target.shape(), classes.weight);
}

}  // namespace

Tensor nll_loss(const Tensor& log_probabilities, const Tensor& target, const NllOptions& options) {
  const Classes classes("nll_loss", log_probabilities, target, options.ignore_index, options.class_weights);
  const Tensor losses = -classes.picked(classes.rows(log_probabilities)) * classes.weight;
  return reduced(losses, options.reduction, target.shape(), classes.weight);
}

Tensor bce_with_logits(const Tensor& logits, const Tensor& target, const BceOptions& options) {
  require_floating("bce_with_logits", logits);
  require_same_dtype("bce_with_logits", logits, "target", target);
  require(target.shape() == logits.shape(), "bce_with_logits: target of shape ", target.shape(), " for logits of shape ",
          logits.shape());
  // -t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)), without a logarithm of 0
  const Tensor positives = options.positive_weight.empty() ? ones_like(target) + target * 0.0
                                                           : target * (options.positive_weight - 1.0) + 1.0;
  Tensor losses = (1.0 - target) * logits + positives * softplus(-logits);
  if (options.weight.defined()) losses = losses * options.weight;
  if (options.reduction == Reduction::none) return losses;
  return options.reduction == Reduction::mean ? mean(losses) : sum(losses);
}

Tensor kl_div(const Tensor& log_q, const Tensor& p, const KlOptions& options) {
  require_floating("kl_div", log_q);
  require_same_dtype("kl_div", log_q, "p", p);
  Tensor losses;
  if (options.log_target) {
    losses = exp(p) * (p - log_q);
  } else {   // 0 log 0 is 0, whatever q says there
    const Tensor nothing = p == 0.0;
    losses = masked_fill(p * (log(masked_fill(p, nothing, 1.0)) - log_q), nothing, 0.0);
  }
  if (options.reduction == Reduction::none) return losses;
  return options.reduction == Reduction::mean ? mean(losses) : sum(losses);
}

Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options) {
  require_classes("cross_entropy", logits, target);
  const double smoothing = options.label_smoothing;
  require(smoothing >= 0 && smoothing <= 1, "cross_entropy: label_smoothing must be between 0 and 1, not ",
          smoothing);
  if (options.class_weights.defined()) return weighted_cross_entropy(logits, target, options);
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
