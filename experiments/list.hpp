// The experiments of the `surgeon` command, in the order in which `list` names them and `all` runs them.
#pragma once

#include <vector>

#include "experiments/lab.hpp"

namespace surgeon {

std::vector<Experiment> all_experiments();

}  // namespace surgeon
