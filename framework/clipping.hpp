// Between grad() and step(): the norm of gradients, clipping, accumulation and the refusal of outliers.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "framework/tensor.hpp"

namespace surgeon {

// The Euclidean norm over all of them as one vector, summed in float64. Empty tensors count for nothing.
double grad_norm(std::span<const Tensor> gradients);

// Replaces the gradients by theirs times min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ does, and
// returns the norm before. A norm of inf or nan leaves zeros and nans: look at it before stepping (OutlierGuard does).
double clip_grad_norm(std::span<Tensor> gradients, double max_norm);

// Gradient accumulation: the weighted mean over several batches. Weighted by the number of targets in each batch, the
// gradients of mean losses give the gradient of the mean loss over all targets, as one large batch would.
class GradientMean {
 public:
  // The same count, shapes and dtypes each time; weight > 0.
  void add(std::span<const Tensor> gradients, double weight = 1.0);
  std::int64_t count() const noexcept { return count_; }
  std::vector<Tensor> take();                    // and starts over; std::invalid_argument when nothing was added

 private:
  std::vector<Tensor> sums_;
  std::int64_t count_ = 0;
  double first_weight_ = 1.0, weights_ = 0.0;    // weights_: the sum, in units of the first
};

struct OutlierOptions {
  double factor = 10.0;        // how many times the median is too much
  std::int64_t window = 100;   // accepted norms that the median is taken over
  std::int64_t warmup = 20;    // so many must be there before any is refused
  std::int64_t patience = 5;   // so many refused in a row are no outliers: the window starts over
};
// Skips steps whose gradient is out of all proportion: `if (guard.accept(norm)) optimizer.step(gradients);`.
// The rule: a norm that is inf or nan is always refused. With at least `warmup` norms in the window, one above
// factor * median is refused, unless the `patience` before it were too: then the level has changed, the window is
// emptied and the norm accepted. Only accepted norms enter the window.
class OutlierGuard {
 public:
  explicit OutlierGuard(const OutlierOptions& options = {});
  bool accept(double norm);
  std::int64_t refused() const noexcept { return refused_; }   // in all

  Tensor state() const;                // float64, for checkpoints
  void restore(const Tensor& state);   // std::invalid_argument when it is none

 private:
  OutlierOptions options_;
  std::deque<double> window_;
  std::int64_t refused_ = 0, in_a_row_ = 0;
};

}  // namespace surgeon
