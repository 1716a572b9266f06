// A graph as text, or as DOT for Graphviz.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "framework/tensor.hpp"

namespace surgeon {

struct GraphOptions {
  bool ranges = true;        // show the smallest and the largest value of each tensor
  bool gradients = true;     // show the Frobenius norm of dy/d(tensor); left out unless y has one element
  std::vector<std::pair<std::string, Tensor>> names = {};   // what to call tensors: {{"Q", Q}, {"K", K}}
};

// One line per tensor that y was made from, oldest first: number, op, inputs, shape, dtype, range, gradient norm.
std::string graph_text(const Tensor& y, const GraphOptions& options = {});
// The same for Graphviz: draw it with `dot -Tsvg`.
std::string graph_dot(const Tensor& y, const GraphOptions& options = {});

}  // namespace surgeon
