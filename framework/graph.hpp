// Looking at a graph as a whole: as text, as DOT, and while it misbehaves.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "framework/autograd.hpp"

namespace surgeon {

struct GraphOptions {
  bool ranges = true;        // smallest and largest value of each tensor
  bool gradients = true;     // Frobenius norm of dy/d(tensor); needs a y of one element, else it is left out
  std::vector<std::pair<std::string, Tensor>> names = {};   // what to call some tensors: {{"Q", Q}, {"K", K}}
};

// One line per tensor that y was made from, oldest first: number, op, inputs, shape, dtype, range, gradient norm.
std::string graph_text(const Tensor& y, const GraphOptions& options = {});
// The same for Graphviz: `dot -Tsvg`.
std::string graph_dot(const Tensor& y, const GraphOptions& options = {});

}  // namespace surgeon
