// An exponential moving average of weights, which is often better than the weights of any one step.
#pragma once

#include "framework/parameters.hpp"

namespace surgeon {

// WeightAverage average(model.parameters(), 0.999);
// ... optimizer.step(gradients); average.update();
// assign_all(evaluated.parameters(), average.weights());
class WeightAverage {
 public:
  // Starts as a copy. decay in [0, 1): the share of the past that each update keeps. std::invalid_argument otherwise.
  WeightAverage(Parameters parameters, double decay = 0.999);
  void update();   // average = decay * average + (1 - decay) * parameter, after each step
  const Parameters& weights() const noexcept { return average_; }   // under the parameters' names; for files, too
  void restore(const Parameters& weights);   // of a run that goes on; all or nothing

 private:
  Parameters parameters_, average_;
  double decay_;
};

}  // namespace surgeon
