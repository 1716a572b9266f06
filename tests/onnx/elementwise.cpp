// ONNX operators element by element and over axes. Meanings: the operator documents of ONNX 1.12 to 1.17 (opsets 17 to 22).
#include "tests/onnx/operators.hpp"

#include <limits>
#include <numeric>

namespace surgeon::tests::onnx {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

Tensor either(const Tensor& a, const Tensor& b) { return a.to(Dtype::int64) + b.to(Dtype::int64) > 0.0; }

// Axes from an attribute (until opset 12) or an input (since), and keepdims, which is 1 by default in ONNX.
Over reduced(const Node& node, const List& in) {
  const std::vector<std::int64_t> axes = given(in, 1) ? integers(in[1]) : node.integers("axes");
  return {std::vector<int>(axes.begin(), axes.end()), node.integer("keepdims", 1) != 0};
}

Operator reduction(std::function<Tensor(const Tensor&, const Over&)> f) {
  return [f](const Node& node, const List& in) -> List {
    const Over over = reduced(node, in);
    if (over.axes.empty() && node.integer("noop_with_empty_axes", 0)) return {in[0]};
    return {f(in[0], over)};
  };
}

// Of any number of operands, from left to right.
Operator variadic(std::function<Tensor(const Tensor&, const Tensor&)> f) {
  return [f](const Node&, const List& in) -> List { return {std::accumulate(in.begin() + 1, in.end(), in[0], f)}; };
}

Tensor cumulative(const Node& node, const List& in) {
  const int axis = positive_axis(in[0], std::int64_t(in[1].item()));
  const bool reverse = node.integer("reverse", 0) != 0;
  return cumsum(in[0], axis, {.reverse = reverse, .exclusive = node.integer("exclusive", 0) != 0});
}

Tensor arg_extreme(const Node& node, const Tensor& x) {
  const int axis = positive_axis(x, node.integer("axis", 0));
  const bool last = node.integer("select_last_index", 0) != 0;
  Tensor y = argmax(last ? flip(x, {axis}) : x, axis);
  if (last) y = double(x.shape(axis) - 1) - y;
  return node.integer("keepdims", 1) ? insert_axes(y, {axis}) : y;
}

Tensor power(const Tensor& x, const Tensor& p) {
  need(is_floating(x.dtype()), "Pow of integers");
  if (p.size() == 1 && p.rank() <= x.rank()) return pow(x, p.item());
  return exp(p.to(x.dtype()) * log(x));   // the vectors' bases are positive
}

Tensor divide(const Tensor& a, const Tensor& b) {
  need(is_floating(a.dtype()), "Div of integers");
  return a / b;
}

Tensor clip(const Node&, const List& in) {
  const double low = number(in, 1, -infinity), high = number(in, 2, infinity);
  need(is_floating(in[0].dtype()), "Clip of integers");
  return clamp(in[0], low, high);
}

Tensor is_infinite(const Node& node, const Tensor& x) {
  const Tensor never = x < x;
  const Tensor high = node.integer("detect_positive", 1) ? x == infinity : never;
  const Tensor low = node.integer("detect_negative", 1) ? x == -infinity : never;
  return either(high, low);
}

// What max, min and logsumexp take; ONNX gives -inf for the largest of no numbers, where our ops refuse.
Tensor numbers(const Tensor& x) {
  need(x.size() > 0, "the largest of no numbers");
  need(x.dtype() != Dtype::boolean, "the largest of booleans");
  return x;
}
Tensor absolute_sum(const Tensor& x, const Over& over) { return sum(abs(x), over); }

int axis_of(const Node& node) { return int(node.integer("axis", -1)); }

Tensor hardmax(const Node& node, const Tensor& x) {
  const int axis = positive_axis(x, node.integer("axis", -1));
  const Tensor hot = one_hot(argmax(x, axis), x.shape(axis), x.dtype());
  Tensor y = hot;
  for (int a = y.rank() - 1; a > axis; --a) y = transpose(y, a - 1, a);
  return y;
}

}  // namespace

const Operators& elementwise_operators() {
  static const Operators table = {
    {"Add", CALL(x + y)}, {"Sub", CALL(x - y)}, {"Mul", CALL(x * y)}, {"Div", CALL(divide(x, y))},
    {"Pow", CALL(power(x, y))}, {"Equal", CALL(x == y)}, {"Less", CALL(x < y)}, {"LessOrEqual", CALL(x <= y)},
    {"Greater", CALL(x > y)}, {"GreaterOrEqual", CALL(x >= y)}, {"And", CALL(!either(!x, !y))},
    {"Or", CALL(either(x, y))}, {"Xor", CALL(x != y)}, {"Not", CALL(!x)}, {"Max", variadic(maximum)},
    {"Min", variadic(minimum)}, {"Sum", variadic([](auto& a, auto& b) { return a + b; })},
    {"Mean", [](const Node&, const List& in) -> List { return {mean(stack(in, 0), 0)}; }},
    {"Where", CALL(where(x, y, in[2]))}, {"IsNaN", CALL(isnan(x))}, {"IsInf", CALL(is_infinite(node, x))},
    {"Clip", CALL(clip(node, in))}, {"Abs", CALL(abs(x))}, {"Sign", CALL(sign(x))}, {"Neg", CALL(-x)},
    {"Round", CALL(round(x))}, {"Floor", CALL(floor(x))}, {"Ceil", CALL(ceil(x))},
    {"Exp", CALL(exp(x))}, {"Log", CALL(log(x))}, {"Sqrt", CALL(sqrt(x))}, {"Reciprocal", CALL(1.0 / x)},
    {"Tanh", CALL(tanh(x))}, {"Sigmoid", CALL(sigmoid(x))}, {"Relu", CALL(relu(x))},
    {"Gelu", CALL(gelu(x, node.text("approximate", "none") == "tanh" ? Gelu::tanh : Gelu::exact))},
    {"Swish", CALL(x * sigmoid(x * node.real("alpha", 1)))},
    {"Softplus", CALL(softplus(x))}, {"Erf", CALL(erf(x))}, {"Sin", CALL(sin(x))}, {"Cos", CALL(cos(x))},
    {"Tan", CALL(sin(x) / cos(x))}, {"Sinh", CALL((exp(x) - exp(-x)) / 2.0)},
    {"Cosh", CALL((exp(x) + exp(-x)) / 2.0)}, {"Asinh", CALL(log(x + sqrt(x * x + 1.0)))},
    {"Acosh", CALL(log(x + sqrt(x * x - 1.0)))}, {"Atanh", CALL(log((1.0 + x) / (1.0 - x)) / 2.0)},
    {"Softsign", CALL(x / (1.0 + abs(x)))}, {"HardSwish", CALL(x * clamp(x / 6.0 + 0.5, 0, 1))},
    {"HardSigmoid", CALL(clamp(x * node.real("alpha", 0.2) + node.real("beta", 0.5), 0, 1))},
    {"LeakyRelu", CALL(where(x < 0.0, x * node.real("alpha", 0.01), x))}, {"PRelu", CALL(where(x < 0.0, x * y, x))},
    {"ThresholdedRelu", CALL(where(x > node.real("alpha", 1), x, zeros_like(x)))},
    {"Elu", CALL(elu(x, node.real("alpha", 1)))},
    {"Celu", CALL(elu(x / node.real("alpha", 1), 1) * node.real("alpha", 1))},
    {"Selu", CALL(elu(x, node.real("alpha", 1.67326319217681884765625)) *
                  node.real("gamma", 1.05070102214813232421875))},
    {"Shrink", CALL(where(x < -node.real("lambd", 0.5), x + node.real("bias", 0),
                            where(x > node.real("lambd", 0.5), x - node.real("bias", 0), zeros_like(x))))},
    {"ReduceSum", reduction([](auto& x, auto& o) { return sum(x, o); })},
    {"ReduceProd", reduction([](auto& x, auto& o) { return prod(x, o); })},
    {"ReduceMean", reduction([](auto& x, auto& o) { return mean(x, o); })},
    {"ReduceMax", reduction([](auto& x, auto& o) { return max(numbers(x), o); })},
    {"ReduceMin", reduction([](auto& x, auto& o) { return min(numbers(x), o); })}, {"ReduceL1", reduction(absolute_sum)},
    {"ReduceL2", reduction([](auto& x, auto& o) { return sqrt(sum(x * x, o)); })},
    {"ReduceLogSum", reduction([](auto& x, auto& o) { return log(sum(x, o)); })},
    {"ReduceLogSumExp", reduction([](auto& x, auto& o) { return logsumexp(numbers(x), o); })},
    {"ReduceSumSquare", reduction([](auto& x, auto& o) { return sum(x * x, o); })},
    {"ArgMax", CALL(arg_extreme(node, x))}, {"ArgMin", CALL(arg_extreme(node, -x))},
    {"CumSum", CALL(cumulative(node, in))}, {"Softmax", CALL(softmax(x, axis_of(node)))},
    {"LogSoftmax", CALL(log_softmax(x, axis_of(node)))}, {"Hardmax", CALL(hardmax(node, x))},
  };
  return table;
}

}  // namespace surgeon::tests::onnx
