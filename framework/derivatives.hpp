// Derivatives of whole functions, built from grad; and gradcheck, which holds any function's derivatives against
// central differences.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "framework/tensor.hpp"

namespace surgeon {

using Function = std::function<Tensor(const std::vector<Tensor>&)>;

// v^T J: one tensor per input.  J v: one tensor shaped like the output.
std::vector<Tensor> vjp(const Function& f, const std::vector<Tensor>& inputs, const Tensor& cotangent);
Tensor jvp(const Function& f, const std::vector<Tensor>& inputs, const std::vector<Tensor>& tangents);
// H v of a scalar function: one tensor per input.
std::vector<Tensor> hvp(const Function& f, const std::vector<Tensor>& inputs, const std::vector<Tensor>& vectors);
// f of one input: J [output shape..., input shape...], H [input shape..., input shape...].
Tensor jacobian(const std::function<Tensor(const Tensor&)>& f, const Tensor& x);
Tensor hessian(const std::function<Tensor(const Tensor&)>& f, const Tensor& x);

struct GradcheckOptions {
  int order = 1;              // 2 also checks the gradient's own gradient, and so on
  double eps = 1e-5;          // first step of the central difference; smaller and larger ones are tried on a mismatch
  double atol = 1e-7;
  double rtol = 1e-6;
  bool every_element = false; // false: one random direction per input; true: each element of each input
  std::uint64_t seed = 1;     // of the direction and the cotangent
};

// Convertible to bool. On failure `message` names order, input, index, analytic and numeric value, and the numeric
// value for each step size tried.
struct GradcheckResult {
  bool passed = true;
  std::string message = {};
  explicit operator bool() const { return passed; }
};

// float64 inputs only: float32 has too few digits for differences (std::invalid_argument says so). Cotangents are random,
// since a cotangent of ones hides wrong rules. Also demanded: bit-equal gradients when run twice, and linearity in the
// cotangent. An exception from f is reported, not passed on.
GradcheckResult gradcheck(const Function& f, const std::vector<Tensor>& inputs, const GradcheckOptions& options = {});

}  // namespace surgeon
