// Just enough of ONNX to run its published test vectors: a reader of the protobuf wire format for models and tensors
// (onnx.proto of ONNX 1.12), and each operator that our vocabulary can express, as a call or a small composition.
#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "framework/framework.hpp"

namespace surgeon::tests::onnx {

// What we do not have, and why a vector is left out: "operator Conv", "type float16".
struct LeftOut : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Attribute {
  double f = 0;
  std::int64_t i = 0;
  std::string s = {};
  Tensor t = {};
  std::vector<double> floats = {};
  std::vector<std::int64_t> ints = {};
};

struct Node {
  std::string type = {};
  std::vector<std::string> inputs = {}, outputs = {};   // names; "" is an optional one that is absent
  std::map<std::string, Attribute> attributes = {};

  bool has(const std::string& name) const { return attributes.contains(name); }
  std::int64_t integer(const std::string& name, std::int64_t otherwise) const;
  double real(const std::string& name, double otherwise) const;
  std::string text(const std::string& name, const std::string& otherwise) const;
  std::vector<std::int64_t> integers(const std::string& name) const;   // empty when absent
};

struct Model {
  std::vector<Node> nodes = {};
  std::vector<std::string> inputs = {}, outputs = {};
};

// float32, float64, int64 and boolean tensors as they are; int32 ones become int64.
Tensor read_tensor(const std::string& path);
Model read_model(const std::string& path);

// The outputs of one operator; absent inputs are empty tensors. Throws LeftOut for what we cannot express.
std::vector<Tensor> evaluate(const Node& node, const std::vector<Tensor>& inputs);
std::vector<Tensor> run(const Model& model, const std::vector<Tensor>& inputs);

}  // namespace surgeon::tests::onnx
