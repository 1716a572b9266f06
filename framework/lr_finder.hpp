// The learning-rate range test: a few steps with a rate that grows, and which rate the loss liked best.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "framework/optim.hpp"

namespace surgeon {

struct LrFinderOptions {
  double low = 1e-7, high = 10.0;   // the rate of the first and the last step; it grows by one factor
  std::int64_t steps = 100;
  double smoothing = 0.95;          // of the losses: their exponential average with this decay, without its bias at the start
  double stop_at = 4.0;             // times the best smoothed loss: there it ends
};

struct LrFinding {
  std::vector<double> rates, losses;   // of each step, the losses smoothed
  double suggested = 0.0;              // where the smoothed loss falls most steeply in log(rate); 0 when it never falls
};

// loss() draws its next batch and gives a scalar. Weights and optimizer are as before when it returns or throws.
// Smith 2015, arXiv 1506.01186, section 3.3; smoothing as Gugger 2018.
LrFinding find_learning_rate(Optimizer& optimizer, const std::function<Tensor()>& loss, const LrFinderOptions& options = {});

}  // namespace surgeon
