// The experiments of the `surgeon` command, in the order in which they are listed and in which `all` runs them.
#pragma once

#include <vector>

#include "experiments/lab.hpp"

namespace surgeon {

std::vector<Experiment> all_experiments();

}  // namespace surgeon
