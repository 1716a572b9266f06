// Looking an ONNX operator up, and what several of them need.
#include <algorithm>
#include <numeric>

#include "tests/onnx/operators.hpp"

namespace surgeon::tests::onnx {

void need(bool can, const std::string& what) {
  if (!can) throw LeftOut(what);
}

bool given(const List& in, std::size_t i) { return i < in.size() && in[i].defined(); }

Tensor input(const List& in, std::size_t i) { return i < in.size() ? in[i] : Tensor(); }

std::vector<std::int64_t> integers(const Tensor& t) {
  const auto values = t.values<std::int64_t>();
  return {values.begin(), values.end()};
}

double number(const List& in, std::size_t i, double otherwise) { return given(in, i) ? in[i].item() : otherwise; }

int positive_axis(const Tensor& x, std::int64_t axis) { return int(axis < 0 ? axis + x.rank() : axis); }

// Two axes of sizes: everything before axis, and the rest.
Tensor two_axes(const Tensor& x, std::int64_t axis) {
  const Shape& s = x.shape();
  const auto middle = s.begin() + positive_axis(x, axis);
  return reshape(x, {std::accumulate(s.begin(), middle, std::int64_t(1), std::multiplies<>()),
                     std::accumulate(middle, s.end(), std::int64_t(1), std::multiplies<>())});
}

Tensor trues(const Tensor& a, const Tensor& b) { return a.to(Dtype::int64) + b.to(Dtype::int64); }

Tensor wrapped(const Tensor& index, std::int64_t size) { return where(index < 0.0, index + double(size), index); }

// Gather: rows of x along an axis, by an index of any shape.

Tensor drop_axes(const Tensor& x, std::vector<std::int64_t> axes) {
  for (std::int64_t& axis : axes) axis = positive_axis(x, axis);
  Shape shape;
  for (int a = 0; a < x.rank(); ++a)
    if (axes.empty() ? x.shape(a) != 1 : std::find(axes.begin(), axes.end(), a) == axes.end())
      shape.push_back(x.shape(a));
  return reshape(x, shape);
}

Tensor insert_axes(const Tensor& x, std::vector<std::int64_t> axes) {
  const auto rank = std::int64_t(x.rank() + axes.size());
  for (std::int64_t& axis : axes) axis += axis < 0 ? rank : 0;
  std::sort(axes.begin(), axes.end());
  Shape shape = x.shape();
  for (const std::int64_t axis : axes) shape.insert(shape.begin() + axis, 1);
  return reshape(x, shape);
}

std::vector<int> spatial(const Tensor& x) {
  std::vector<int> axes;
  for (int a = 2; a < x.rank(); ++a) axes.push_back(a);
  return axes;
}

std::vector<Tensor> evaluate(const Node& node, const std::vector<Tensor>& inputs) {
  for (const Operators* table : {&elementwise_operators(), &shape_operators(), &layer_operators()})
    if (const auto found = table->find(node.type); found != table->end()) return found->second(node, inputs);
  throw LeftOut("operator " + node.type);
}

}  // namespace surgeon::tests::onnx
