// What to call for each op and layer of the golden files.
#pragma once

#include <string>
#include <vector>

#include "layers/layers.hpp"
#include "tests/golden/golden.hpp"

namespace surgeon::tests {

struct Answer {
  std::vector<Tensor> outputs;
  std::vector<Tensor> targets;   // what the golden gradients of the first output are for
};

// Throws std::out_of_range for an op that has no call.
Answer golden_answer(const std::string& op, const std::vector<Tensor>& inputs, const Json& options);

// Attention without weights, which may run another kernel, must give the same first output and gradients.
bool golden_has_lean_way(const std::string& op);
Answer golden_lean_answer(const std::string& op, const std::vector<Tensor>& inputs, const Json& options);

// Layers: the inputs after the first ones are parameters, in the order of options "names".
bool golden_is_layer(const std::string& op);
Answer golden_layer(const std::string& op, const std::vector<Tensor>& inputs, const Json& options);

// The options of a case of attention_rules; its tensors after Q, K and V are named by options "names".
AttentionOptions golden_rules(const Json& options, const std::vector<Tensor>& inputs, Dtype dtype);

std::vector<Tensor> floating_ones(const std::vector<Tensor>& tensors);

}  // namespace surgeon::tests
