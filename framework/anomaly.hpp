// Finding the first op that gives nan, or inf from finite numbers.
#pragma once

#include <stdexcept>

#include "framework/autograd.hpp"

namespace surgeon {

// What an Anomaly throws. It names the op and whether its value or its gradient went wrong, the shapes and ranges of
// its inputs, and the ops that lead to it (forward) or from it to the loss (backward).
struct AnomalyError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// While one lives, the first op on this thread that gives nan, or inf from finite inputs, throws AnomalyError, in the
// forward pass and in grad(). Two things are allowed: passing on what is infinite already, and filling with infinity
// what a mask among the op's inputs picks out.
class Anomaly {
 public:
  explicit Anomaly(bool watch = true) noexcept;   // false: switches an outer one off

 private:
  detail::Watching watching_;
};

}  // namespace surgeon
