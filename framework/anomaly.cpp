// Watches what ops and gradient rules give, and says where the first nan came from.
#include "framework/anomaly.hpp"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include "framework/autograd.hpp"
#include "framework/detail/node.hpp"
#include "framework/detail/range.hpp"
#include "framework/errors.hpp"
#include "framework/ops.hpp"

namespace surgeon {

using detail::described;
using detail::Range;
using detail::range_of;

namespace {

std::string index_of(std::int64_t flat, const Shape& shape) {
  Shape index(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0; flat /= shape[axis]) index[axis] = flat % shape[axis];
  return to_string(index);
}

// "add <- multiply <- given": one way back from x, along each op's first recorded input.
std::string way_back(std::span<const Tensor> inputs) {
  std::string way;
  for (int steps = 0; steps < 12; ++steps) {
    const auto made = std::find_if(inputs.begin(), inputs.end(), [](const Tensor& x) { return x.node().step; });
    if (made == inputs.end()) return way + " <- given";
    way += std::string(" <- ") + made->node().step->name;
    inputs = made->node().step->inputs;
  }
  return way + " <- ...";
}

// The ops from y (not included) to the loss.
std::string way_on(const Tensor& y, const Tensor& loss) {
  std::unordered_map<std::uint64_t, const detail::Node*> consumer;   // on one way to the loss
  std::vector<const detail::Node*> todo{&loss.node()};
  while (!todo.empty() && !consumer.contains(y.node().id)) {
    const detail::Node* node = todo.back();
    todo.pop_back();
    if (!node->step || node->id < y.node().id) continue;
    for (const Tensor& input : node->step->inputs)
      if (consumer.emplace(input.node().id, node).second) todo.push_back(&input.node());
  }
  std::string way;
  int steps = 0;
  for (const detail::Node* node = &y.node(); node != &loss.node();) {
    const auto next = consumer.find(node->id);
    if (next == consumer.end()) return way;
    node = next->second;
    if (++steps <= 12) way += std::string(" -> ") + node->step->name;
  }
  return way + (steps > 12 ? " -> ... -> loss" : " -> loss");
}

bool has_infinity(std::span<const Tensor> inputs) {
  return std::any_of(inputs.begin(), inputs.end(), [](const Tensor& x) {
    return !x.empty() && is_floating(x.dtype()) && range_of(x).infinities > 0;
  });
}

// Whether the infinities of a value were asked for: they fill exactly what a mask among the inputs picks out.
bool is_fill(std::span<const Tensor> inputs, const Tensor& value) {
  const Anomaly here(false);
  const NoRecord pause;
  const Tensor infinite = isnan(value * 0.0);
  return std::any_of(inputs.begin(), inputs.end(), [&](const Tensor& mask) {
    if (mask.empty() || mask.dtype() != Dtype::boolean || !broadcasts_to(mask.shape(), value.shape())) return false;
    const double agree = sum(infinite == broadcast_to(mask, value.shape())).item();
    return agree == 0.0 || agree == double(value.size());
  });
}

std::string inputs_text(std::span<const Tensor> inputs) {
  std::string text;
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (!inputs[i].empty()) text += "\n  input " + std::to_string(i) + ": " + described(inputs[i]);
  return text;
}

// "nan in 1 of 2 values, first at [1]"
std::string fault_text(const Range& range, const Tensor& x) {
  return sentence(range.nans ? "nan" : "inf", " in ", range.nans + range.infinities, " of ", x.size(),
                  " values, first at ", index_of(range.first_bad, x.shape()));
}

void check_value(const char* op, std::span<const Tensor> inputs, const Tensor& value) {
  const Range range = range_of(value);
  const bool may_be_infinite = range.infinities == 0 || has_infinity(inputs) || is_fill(inputs, value);
  if (range.nans == 0 && may_be_infinite) return;
  throw AnomalyError(sentence("anomaly: ", op, " gave ", fault_text(range, value), inputs_text(inputs),
                              "\n  made by: ", op, way_back(inputs)));
}

void check_gradient(const detail::Step& step, std::size_t input, const Tensor& g, const Tensor& gradient,
                    const Tensor& y, const Tensor& loss) {
  const Range range = range_of(gradient);
  const Tensor upstream[] = {g};
  if (range.nans == 0 && (range.infinities == 0 || has_infinity(upstream))) return;
  throw AnomalyError(sentence("anomaly: the gradient of ", step.name, " for input ", input, " gave ",
                              fault_text(range, gradient), inputs_text(step.inputs), "\n  from above: ", described(g),
                              "\n  on the way: ", step.name, way_on(y, loss)));
}

constexpr detail::Watch anomalies = {check_value, check_gradient};

}  // namespace

Anomaly::Anomaly(bool watch) noexcept : watching_(watch ? &anomalies : nullptr) {}

}  // namespace surgeon
