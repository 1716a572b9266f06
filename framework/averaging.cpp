// The average is plain numbers: no graph grows with it.
#include "framework/averaging.hpp"

#include "framework/autograd.hpp"
#include "framework/errors.hpp"
#include "framework/ops.hpp"

namespace surgeon {

WeightAverage::WeightAverage(Parameters parameters, double decay) : parameters_(std::move(parameters)), decay_(decay) {
  require(decay >= 0.0 && decay < 1.0, "WeightAverage: decay = ", decay, " is not in [0, 1)");
  for (const auto& [name, tensor] : parameters_) {
    Tensor copy = zeros_like(tensor);
    copy.assign(tensor);
    average_.add(name, copy);
  }
}

void WeightAverage::update() {
  const NoRecord pause;
  for (const auto& [name, tensor] : parameters_) {
    Tensor average = average_[name];
    average.assign(average * decay_ + tensor * (1.0 - decay_));
  }
}

void WeightAverage::restore(const Parameters& weights) { assign_all(average_, weights); }

}  // namespace surgeon
