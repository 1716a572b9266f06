// Between grad() and step(): gradient norms, clipping, accumulation, and skipping outliers.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "framework/tensor.hpp"

namespace surgeon {

// The Euclidean norm of all gradients as one vector, summed in float64. Empty tensors are skipped.
double grad_norm(std::span<const Tensor> gradients);

// Multiplies the gradients by min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ does, and returns the
// norm they had before. If that is inf or nan, the gradients become zeros and nans: check it before stepping, as
// OutlierGuard does.
double clip_grad_norm(std::span<Tensor> gradients, double max_norm);

// Gradient accumulation: the weighted mean of the gradients of several batches. When each loss is a mean over targets,
// weights that are the numbers of targets give the gradient of one large batch.
class GradientMean {
 public:
  // The same count, shapes and dtypes each time; weight > 0.
  void add(std::span<const Tensor> gradients, double weight = 1.0);
  std::int64_t count() const noexcept { return count_; }
  std::vector<Tensor> take();                    // the mean; then starts over. std::invalid_argument before any add

 private:
  std::vector<Tensor> sums_;
  std::int64_t count_ = 0;
  double first_weight_ = 1.0, weights_ = 0.0;    // weights_: the sum, in units of the first
};

struct OutlierOptions {
  double factor = 10.0;        // a norm above factor * median is an outlier
  std::int64_t window = 100;   // how many accepted norms the median is taken over
  std::int64_t warmup = 20;    // nothing is refused before this many norms are known
  std::int64_t patience = 5;   // after this many refusals in a row, the new level is accepted
};
// Skips steps whose gradient is out of all proportion: `if (guard.accept(norm)) optimizer.step(gradients);`.
// A norm that is inf or nan is always refused. Once `warmup` norms are in the window, a norm above factor * median is
// refused, unless `patience` norms in a row before it were refused too: then the level has changed, so the window is
// emptied and the norm accepted. Only accepted norms enter the window.
class OutlierGuard {
 public:
  explicit OutlierGuard(const OutlierOptions& options = {});
  bool accept(double norm);
  std::int64_t refused() const noexcept { return refused_; }   // how many in all

  Tensor state() const;                // float64, for checkpoints
  void restore(const Tensor& state);   // std::invalid_argument for any other tensor

 private:
  OutlierOptions options_;
  std::deque<double> window_;
  std::int64_t refused_ = 0, in_a_row_ = 0;
};

}  // namespace surgeon
