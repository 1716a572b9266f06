// Steps on the real weights, which are put back afterwards.
#include "framework/lr_finder.hpp"

#include <algorithm>
#include <cmath>

#include "framework/autograd.hpp"
#include "framework/errors.hpp"

namespace surgeon {
namespace {

// Puts weights and optimizer back, also when a loss throws.
class Restoring {
 public:
  explicit Restoring(Optimizer& optimizer) : optimizer_(optimizer), state_(optimizer.state()) {
    for (const Tensor& x : optimizer.parameters().tensors()) weights_.push_back(x.detach());
  }
  ~Restoring() {
    const std::vector<Tensor> now = optimizer_.parameters().tensors();
    for (std::size_t i = 0; i < now.size(); ++i) Tensor(now[i]).assign(weights_[i]);
    optimizer_.restore(state_);
  }
  Restoring(const Restoring&) = delete;
  Restoring& operator=(const Restoring&) = delete;

 private:
  Optimizer& optimizer_;
  Parameters state_;
  std::vector<Tensor> weights_;
};

double steepest(const LrFinding& found) {
  double best = 0.0, rate = 0.0;
  for (std::size_t i = 1; i < found.losses.size(); ++i) {
    const double slope = (found.losses[i] - found.losses[i - 1]) / std::log(found.rates[i] / found.rates[i - 1]);
    if (slope < best) best = slope, rate = std::sqrt(found.rates[i] * found.rates[i - 1]);
  }
  return rate;
}

}  // namespace

LrFinding find_learning_rate(Optimizer& optimizer, const std::function<Tensor()>& loss, const LrFinderOptions& o) {
  require(o.low > 0.0 && o.high > o.low && std::isfinite(o.high), "find_learning_rate: low = ", o.low, ", high = ", o.high,
          "; 0 < low < high is needed");
  require(o.steps >= 2, "find_learning_rate: ", o.steps, " steps; at least 2 are needed");
  require(o.smoothing >= 0.0 && o.smoothing < 1.0, "find_learning_rate: smoothing = ", o.smoothing, " is not in [0, 1)");
  const Restoring later(optimizer);
  LrFinding found;
  double average = 0.0, best = INFINITY;
  for (std::int64_t step = 0; step < o.steps; ++step) {
    const double rate = o.low * std::pow(o.high / o.low, double(step) / double(o.steps - 1));
    const Tensor value = loss();
    average = o.smoothing * average + (1.0 - o.smoothing) * value.item();
    const double smoothed = average / (1.0 - std::pow(o.smoothing, double(step + 1)));
    if (!std::isfinite(smoothed) || (best > 0.0 && smoothed > o.stop_at * best)) break;
    best = std::min(best, smoothed);
    found.rates.push_back(rate);
    found.losses.push_back(smoothed);
    optimizer.set_lr(rate);
    optimizer.step(grad(value, optimizer.parameters().tensors()));
  }
  found.suggested = steepest(found);
  return found;
}

}  // namespace surgeon
