// The op table: every differentiable op and variant of it, with points where it is smooth. Adding an op means adding a
// row here; the gradient tests, the float32 tests and the mutants all read this table.
#pragma once

#include <string>
#include <vector>

#include "framework/framework.hpp"

namespace surgeon::tests {

struct OpCase {
  std::string name;              // "matmul [2, 3] x [3, 4]"
  Function f;                    // of any floating dtype
  std::vector<Tensor> inputs;    // float64
  int order = 2;                 // gradients are checked up to this one
};

std::vector<OpCase> op_cases();

}  // namespace surgeon::tests
