// The pieces of work that are timed, by name: each is prepared once and then runs again and again. torch_works.py has
// the same names for PyTorch.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace surgeon::bench {

struct Work {
  std::string name;
  std::function<std::function<void()>()> prepare;   // makes the data; what it returns is one run
};

const std::vector<Work>& works();

}  // namespace surgeon::bench
