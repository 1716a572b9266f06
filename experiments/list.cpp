// To add an experiment: write experiments/name.cpp with `Experiment name()` in namespace surgeon::experiments, then
// declare it and list it here.
#include "experiments/list.hpp"

namespace surgeon {
namespace experiments {
Experiment attention(), heatmap(), scaling(), masking(), heads(), reflect(), train(), twins(), compare(),
    import_weights(), inspect(), doctor(), claims_beside_theory(), anatomy_of_the_gradient(), precision(),
    best_scale_by_ascent();
}

std::vector<Experiment> all_experiments() {
  using namespace experiments;
  return {experiments::attention(), heatmap(), scaling(), masking(), heads(), reflect(), anatomy_of_the_gradient(),
          experiments::precision(), claims_beside_theory(), best_scale_by_ascent(), train(), twins(), compare(),
          import_weights(), inspect(), experiments::doctor()};
}

}  // namespace surgeon
