// Finding the op that first gives nan, or inf from finite numbers.
#pragma once

#include <span>
#include <stdexcept>

#include "framework/tensor.hpp"

namespace surgeon {

// What an Anomaly throws: the op, whether its value or its gradient went wrong, its inputs' shapes and ranges, and the
// ops between it and the inputs (forward) or the loss (backward).
struct AnomalyError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// While one lives, on this thread, the first op that gives nan, or inf from finite inputs, throws AnomalyError, in the
// forward pass and in grad(). What is infinite already may be passed on, and an op with a mask among its inputs may fill
// what the mask picks out with infinity.
class Anomaly {
 public:
  explicit Anomaly(bool watch = true) noexcept;   // false: not here, inside a wider one
  ~Anomaly();
  Anomaly(const Anomaly&) = delete;
  Anomaly& operator=(const Anomaly&) = delete;

 private:
  bool before_;
};

namespace detail {
struct Step;
// The engine's side of it.
bool watching() noexcept;
void check_value(const char* op, std::span<const Tensor> inputs, const Tensor& value);
void check_gradient(const Step& step, std::size_t input, const Tensor& g, const Tensor& gradient, const Tensor& y,
                    const Tensor& loss);
}  // namespace detail

}  // namespace surgeon
