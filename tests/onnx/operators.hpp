// What the three files of ONNX operators share: the form of a table and small readers of inputs.
#pragma once

#include <functional>

#include "tests/onnx/onnx.hpp"

namespace surgeon::tests::onnx {

using List = std::vector<Tensor>;
using Operator = std::function<List(const Node& node, const List& in)>;
using Operators = std::map<std::string, Operator>;

const Operators& elementwise_operators();
const Operators& shape_operators();
const Operators& layer_operators();

void need(bool can, const std::string& what);          // LeftOut otherwise
bool given(const List& in, std::size_t i);             // an optional input
Tensor input(const List& in, std::size_t i);           // empty when absent
double number(const List& in, std::size_t i, double otherwise);
std::vector<std::int64_t> integers(const Tensor& t);
int positive_axis(const Tensor& x, std::int64_t axis);
std::vector<int> spatial(const Tensor& x);             // all axes but batch and channel

Tensor two_axes(const Tensor& x, std::int64_t axis);   // two axes: everything before axis, and the rest
Tensor insert_axes(const Tensor& x, std::vector<std::int64_t> axes);
Tensor drop_axes(const Tensor& x, std::vector<std::int64_t> axes);   // none given: every axis of size 1
Tensor wrapped(const Tensor& index, std::int64_t size);              // negative indices count from the end

}  // namespace surgeon::tests::onnx

// An operator as one expression; x and y are its first two inputs.
#define CALL(expression)                                                              \
  []([[maybe_unused]] const Node& node, const List& in) -> List {                     \
    [[maybe_unused]] const Tensor x = input(in, 0), y = input(in, 1);                 \
    return {expression};                                                              \
  }
