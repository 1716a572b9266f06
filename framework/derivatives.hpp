// Derivatives of whole functions, built on grad; and gradcheck, which compares any function's derivatives with central
// differences.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "framework/tensor.hpp"

namespace surgeon {

using Function = std::function<Tensor(const std::vector<Tensor>&)>;

// vjp: v^T J, one tensor per input.  jvp: J v, one tensor shaped like the output.
std::vector<Tensor> vjp(const Function& f, const std::vector<Tensor>& inputs, const Tensor& cotangent);
Tensor jvp(const Function& f, const std::vector<Tensor>& inputs, const std::vector<Tensor>& tangents);
// H v of a function with one element: one tensor per input.
std::vector<Tensor> hvp(const Function& f, const std::vector<Tensor>& inputs, const std::vector<Tensor>& vectors);
// For f of one input: J [output shape..., input shape...] and H [input shape..., input shape...].
Tensor jacobian(const std::function<Tensor(const Tensor&)>& f, const Tensor& x);
Tensor hessian(const std::function<Tensor(const Tensor&)>& f, const Tensor& x);

struct GradcheckOptions {
  int order = 1;              // 2 also checks the gradient's own gradient, and so on
  double eps = 1e-5;          // step of the central difference; on a mismatch smaller and larger ones are tried
  double atol = 1e-7;
  double rtol = 1e-6;
  bool every_element = false; // check each element of each input, not just one random direction per input
  std::uint64_t seed = 1;     // for the random direction and cotangent
};

// Convertible to bool. On failure `message` gives the order, the input, the index, the analytic and the numeric value,
// and the numeric value for each step that was tried.
struct GradcheckResult {
  bool passed = true;
  std::string message = {};
  explicit operator bool() const { return passed; }
};

// Inputs must be float64, or std::invalid_argument is thrown: float32 has too few digits for differences. Cotangents
// are random, since a cotangent of ones hides wrong rules. It also checks that running twice gives the same bits, and
// that gradients are linear in the cotangent. An exception from f is reported in the result, not passed on.
GradcheckResult gradcheck(const Function& f, const std::vector<Tensor>& inputs, const GradcheckOptions& options = {});

}  // namespace surgeon
