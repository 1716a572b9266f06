// Each ONNX operator that our vocabulary can express: a call where we have it, a small composition where we do not.
// Names, defaults and meanings: the operator documents of ONNX 1.12 (opset 17).
#include "onnx.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace surgeon::tests::onnx {
namespace {

using List = std::vector<Tensor>;
using Call = std::function<List(const Node& node, const List& in)>;
constexpr double infinity = std::numeric_limits<double>::infinity();

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

// Axes from an attribute (until opset 12) or an input (since), and keepdims, which is 1 by default in ONNX.
Over reduced(const Node& node, const List& in) {
  const std::vector<std::int64_t> axes = given(in, 1) ? integers(in[1]) : node.integers("axes");
  return {std::vector<int>(axes.begin(), axes.end()), node.integer("keepdims", 1) != 0};
}

Call reduction(std::function<Tensor(const Tensor&, const Over&)> f) {
  return [f](const Node& node, const List& in) -> List {
    const Over over = reduced(node, in);
    if (over.axes.empty() && node.integer("noop_with_empty_axes", 0)) return {in[0]};
    return {f(in[0], over)};
  };
}

// Of any number of operands, from left to right.
Call variadic(std::function<Tensor(const Tensor&, const Tensor&)> f) {
  return [f](const Node&, const List& in) -> List { return {std::accumulate(in.begin() + 1, in.end(), in[0], f)}; };
}

Tensor trues(const Tensor& a, const Tensor& b) { return a.to(Dtype::int64) + b.to(Dtype::int64); }

Tensor insert_axes(const Tensor& x, std::vector<std::int64_t> axes) {
  const auto rank = std::int64_t(x.rank() + axes.size());
  for (std::int64_t& axis : axes) axis += axis < 0 ? rank : 0;
  std::sort(axes.begin(), axes.end());
  Shape shape = x.shape();
  for (const std::int64_t axis : axes) shape.insert(shape.begin() + axis, 1);
  return reshape(x, shape);
}

Tensor drop_axes(const Tensor& x, std::vector<std::int64_t> axes) {
  for (std::int64_t& axis : axes) axis = positive_axis(x, axis);
  Shape shape;
  for (int a = 0; a < x.rank(); ++a)
    if (axes.empty() ? x.shape(a) != 1 : std::find(axes.begin(), axes.end(), a) == axes.end()) shape.push_back(x.shape(a));
  return reshape(x, shape);
}

Tensor flip(const Tensor& x, int axis) { return slice(x, axis, -1, -to_end, -1); }

// Two axes of sizes: everything before axis, and the rest.
Tensor flatten(const Tensor& x, std::int64_t axis) {
  const Shape& s = x.shape();
  const auto middle = s.begin() + positive_axis(x, axis);
  return reshape(x, {std::accumulate(s.begin(), middle, std::int64_t(1), std::multiplies<>()),
                     std::accumulate(middle, s.end(), std::int64_t(1), std::multiplies<>())});
}

Tensor expand(const Tensor& x, Shape shape) {   // ONNX: a 1 in the target keeps x's own size
  Shape own = x.shape();
  own.insert(own.begin(), shape.size() > own.size() ? shape.size() - own.size() : 0, 1);
  shape.insert(shape.begin(), own.size() - shape.size(), 1);
  for (std::size_t i = 0; i < own.size(); ++i) shape[i] = shape[i] == 1 ? own[i] : shape[i];
  return broadcast_to(x, shape);
}

Tensor wrapped(const Tensor& index, std::int64_t size) { return where(index < 0.0, index + double(size), index); }

// Gather: rows of x along an axis, by an index of any shape.
Tensor take(const Tensor& x, const Tensor& index, int axis) {
  Tensor rows = x;
  for (int a = axis; a > 0; --a) rows = transpose(rows, a - 1, a);   // the axis to the front, the others in order
  const Tensor flat = reshape(wrapped(index, x.shape(axis)), {-1});
  Shape rest(rows.shape().begin() + 1, rows.shape().end());
  Shape shape = index.shape();
  shape.insert(shape.end(), rest.begin(), rest.end());
  const std::int64_t width = std::accumulate(rest.begin(), rest.end(), std::int64_t(1), std::multiplies<>());
  Tensor y = reshape(embedding(reshape(rows, {x.shape(axis), width}), flat), shape);
  std::vector<int> order;   // index axes go where the axis was
  for (int a = 0; a < axis; ++a) order.push_back(index.rank() + a);
  for (int a = 0; a < index.rank(); ++a) order.push_back(a);
  for (int a = index.rank() + axis; a < y.rank(); ++a) order.push_back(a);
  return permute(y, order);
}

Dtype dtype_of(std::int64_t onnx_type) {
  switch (onnx_type) {
    case 1: return Dtype::float32;
    case 6: case 7: return Dtype::int64;
    case 9: return Dtype::boolean;
    case 11: return Dtype::float64;
  }
  throw LeftOut("a cast to a type we do not have");
}

Tensor cumulative(const Node& node, const List& in) {
  const int axis = positive_axis(in[0], std::int64_t(in[1].item()));
  const bool reverse = node.integer("reverse", 0) != 0;
  const Tensor x = reverse ? flip(in[0], axis) : in[0];
  const Tensor y = node.integer("exclusive", 0) ? cumsum(x, axis) - x : cumsum(x, axis);
  return reverse ? flip(y, axis) : y;
}

Tensor arg_extreme(const Node& node, const Tensor& x) {
  const int axis = positive_axis(x, node.integer("axis", 0));
  const bool last = node.integer("select_last_index", 0) != 0;
  Tensor y = argmax(last ? flip(x, axis) : x, axis);
  if (last) y = double(x.shape(axis) - 1) - y;
  return node.integer("keepdims", 1) ? insert_axes(y, {axis}) : y;
}

List split(const Node& node, const List& in) {
  const int axis = positive_axis(in[0], node.integer("axis", 0));
  std::vector<std::int64_t> sizes = given(in, 1) ? integers(in[1]) : node.integers("split");
  const auto parts = std::int64_t(node.outputs.size());
  if (sizes.empty()) sizes.assign(node.outputs.size(), in[0].shape(axis) / parts);
  List made;
  for (std::int64_t i = 0, start = 0; i < parts; start += sizes[std::size_t(i++)])
    made.push_back(slice(in[0], axis, start, start + sizes[std::size_t(i)]));
  return made;
}

List slices(const Node&, const List& in) {
  Tensor x = in[0];
  const std::vector<std::int64_t> starts = integers(in[1]), stops = integers(in[2]);
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const int axis = positive_axis(x, given(in, 3) ? integers(in[3])[i] : std::int64_t(i));
    const std::int64_t step = given(in, 4) ? integers(in[4])[i] : 1;
    // ONNX clips a stop below -size to before the first element when walking backwards.
    const bool past = step < 0 && stops[i] < -x.shape(axis);
    x = slice(x, axis, starts[i], past ? -to_end : stops[i], step);
  }
  return {x};
}

Tensor reshaped(const Node& node, const List& in) {
  Shape shape = integers(in[1]);
  if (!node.integer("allowzero", 0))
    for (std::size_t i = 0; i < shape.size(); ++i) shape[i] = shape[i] == 0 ? in[0].shape(int(i)) : shape[i];
  return reshape(in[0], shape);
}

Tensor gemm(const Node& node, const List& in) {
  const MatmulOptions flips{node.integer("transA", 0) != 0, node.integer("transB", 0) != 0};
  const Tensor y = matmul(in[0], in[1], flips) * node.real("alpha", 1);
  return given(in, 2) ? y + in[2] * node.real("beta", 1) : y;
}

// Over the axes from `axis` on, which our layer_norm has as one.
List layer_normalization(const Node& node, const List& in) {
  const Tensor& x = in[0];
  const int axis = positive_axis(x, node.integer("axis", -1));
  const Tensor rows = flatten(x, axis);
  const double eps = node.real("epsilon", 1e-5);
  const Tensor gamma = reshape(in[1], {-1});
  const Tensor beta = given(in, 2) ? reshape(in[2], {-1}) : zeros_like(gamma);
  Shape kept = x.shape();
  std::fill(kept.begin() + axis, kept.end(), 1);
  const Tensor variance = var(rows, {.axes = {1}, .correction = 0});
  return {reshape(layer_norm(rows, gamma, beta, eps), x.shape()), reshape(mean(rows, {1}), kept), reshape(1.0 / sqrt(variance + eps), kept)};
}

// [C] as it stands over x [N, C, ...].
Tensor per_channel(const Tensor& v, const Tensor& x) {
  Shape shape(std::size_t(x.rank()), 1);
  shape[1] = v.size();
  return reshape(v, shape);
}

std::vector<int> spatial(const Tensor& x) {
  std::vector<int> axes;
  for (int a = 2; a < x.rank(); ++a) axes.push_back(a);
  return axes;
}

Tensor normalized(const Tensor& x, const Tensor& centre, const Tensor& variance, const Tensor& gamma, const Tensor& beta, double eps) {
  return (x - centre) / sqrt(variance + eps) * per_channel(gamma, x) + per_channel(beta, x);
}

List batch_normalization(const Node& node, const List& in) {
  const Tensor& x = in[0];
  const double eps = node.real("epsilon", 1e-5), keep = node.real("momentum", 0.9);
  if (!node.integer("training_mode", 0))
    return {normalized(x, per_channel(in[3], x), per_channel(in[4], x), in[1], in[2], eps)};
  std::vector<int> axes = spatial(x);
  axes.push_back(0);
  const Tensor centre = mean(x, Over{axes}), variance = var(x, {.axes = axes, .correction = 0});
  return {normalized(x, per_channel(centre, x), per_channel(variance, x), in[1], in[2], eps),
          in[3] * keep + centre * (1 - keep), in[4] * keep + variance * (1 - keep)};
}

Tensor instance_normalization(const Node& node, const List& in) {
  const Tensor& x = in[0];
  return normalized(x, mean(x, Over{spatial(x), true}), var(x, {.axes = spatial(x), .keepdims = true, .correction = 0}), in[1],
                    in[2], node.real("epsilon", 1e-5));
}

// Losses have their classes on axis 1; ours on the last.
Tensor classes_last(Tensor x) {
  for (int a = 1; a + 1 < x.rank(); ++a) x = transpose(x, a, a + 1);
  return x;
}

Tensor weighted_loss(const Node& node, const Tensor& each, const Tensor& kept, const Tensor& weights, const Tensor& target) {
  const std::string how = node.text("reduction", "mean");
  Tensor weight = kept.to(each.dtype());
  if (weights.defined()) weight = weight * take(weights, where(kept, target, zeros_like(target)), 0);
  const Tensor y = each * weight;
  return how == "none" ? y : how == "sum" ? sum(y) : sum(y) / sum(weight);
}

Tensor negative_log_likelihood(const Node& node, const List& in) {
  const Tensor x = classes_last(in[0]);
  const bool ignores = node.has("ignore_index");
  const Tensor kept = ignores ? in[1] != double(node.integer("ignore_index", 0)) : in[1] == in[1];
  const Tensor index = insert_axes(where(kept, in[1], zeros_like(in[1])), {-1});
  return weighted_loss(node, -drop_axes(gather(x, -1, index), {-1}), kept, given(in, 2) ? in[2] : Tensor(), in[1]);
}

List softmax_cross_entropy(const Node& node, const List& in) {
  const std::string how = node.text("reduction", "mean");
  const Tensor log_likelihood = log_softmax(in[0], 1);
  if (given(in, 2)) return {negative_log_likelihood(node, {log_likelihood, in[1], in[2]}), log_likelihood};
  const CrossEntropyOptions options{.reduction = how == "none" ? Reduction::none : how == "sum" ? Reduction::sum : Reduction::mean,
                                    .ignore_index = node.integer("ignore_index", -100)};
  return {cross_entropy(classes_last(in[0]), in[1], options), log_likelihood};
}

Tensor one_hot_of(const Node& node, const List& in) {
  const auto classes = std::int64_t(in[1].item());
  const Tensor hot = one_hot(wrapped(in[0].to(Dtype::int64), classes), classes, Dtype::boolean);
  const Tensor off = slice(in[2], 0, 0, 1), on = slice(in[2], 0, 1, 2);
  Tensor y = where(hot, on, off);   // the new axis comes last
  const int axis = positive_axis(y, node.integer("axis", -1));
  for (int a = y.rank() - 1; a > axis; --a) y = transpose(y, a - 1, a);
  return y;
}

Tensor hardmax(const Node& node, const Tensor& x) {
  const int axis = positive_axis(x, node.integer("axis", -1));
  const Tensor hot = one_hot(argmax(x, axis), x.shape(axis), x.dtype());
  Tensor y = hot;
  for (int a = y.rank() - 1; a > axis; --a) y = transpose(y, a - 1, a);
  return y;
}

Tensor diagonal_part(const Node& node, const List& in) {
  const auto diagonal = std::int64_t(number(in, 1, 0));
  return node.integer("upper", 1) ? triu(in[0], diagonal) : tril(in[0], diagonal);
}

Tensor eye_like(const Node& node, const Tensor& x) {
  const auto k = node.integer("k", 0);
  const Tensor ones_there = ones(x.shape(), Dtype::float64);
  const Tensor y = tril(ones_there, k) - tril(ones_there, k - 1);
  return y.to(node.has("dtype") ? dtype_of(node.integer("dtype", 1)) : x.dtype());
}

Tensor einsum(const Node& node, const List& in) {
  const std::string equation = node.text("equation", "");
  if (equation == "...ii ->...i") {
    const Tensor on = eye(in[0].shape(-1), in[0].dtype());
    return sum(in[0] * on, -1);
  }
  if (equation == "bij, bjk -> bik") return matmul(in[0], in[1]);
  if (equation == "i,i") return matmul(in[0], in[1]);
  if (equation == "ij->i") return sum(in[0], -1);
  if (equation == "ij->ji") return transpose(in[0], 0, 1);
  throw LeftOut("einsum " + equation);
}

// x with the elements at index set to updates (or added to), by the adjoint of gather and a mask of where it wrote.
Tensor scatter_elements(const Node& node, const List& in) {
  const int axis = positive_axis(in[0], node.integer("axis", 0));
  const Tensor index = wrapped(in[1], in[0].shape(axis));
  const Tensor added = scatter_add(in[0].shape(), axis, index, in[2]);
  if (node.text("reduction", "none") == "add") return in[0] + added;
  const Tensor written = scatter_add(in[0].shape(), axis, index, ones_like(in[2]));
  return where(written == 0.0, in[0], added);
}

Tensor gather_nd(const Node& node, const List& in) {
  need(node.integer("batch_dims", 0) == 0, "GatherND with batch axes");
  const auto depth = int(in[1].shape(-1));
  Tensor flat = zeros(Shape(in[1].shape().begin(), in[1].shape().end() - 1), Dtype::int64);
  std::int64_t rows = 1;
  for (int a = 0; a < depth; ++a) {
    const Tensor step = drop_axes(slice(in[1], -1, a, a + 1), {-1});
    flat = flat * double(in[0].shape(a)) + wrapped(step, in[0].shape(a));
    rows *= in[0].shape(a);
  }
  Shape shape{rows};
  shape.insert(shape.end(), in[0].shape().begin() + depth, in[0].shape().end());
  return take(reshape(in[0], shape), flat, 0);
}

Tensor tile(const Tensor& x, const std::vector<std::int64_t>& repeats) {
  Tensor y = x;
  for (int a = 0; a < x.rank(); ++a) y = concat(List(std::size_t(repeats[std::size_t(a)]), y), a);
  return y;
}

Tensor constant_pad(const Node& node, const List& in) {
  need(node.text("mode", "constant") == "constant", "Pad by reflection or edge");
  const std::vector<std::int64_t> pads = integers(in[1]);
  Tensor x = in[0];
  for (int a = 0; a < x.rank(); ++a)
    for (const bool after : {false, true}) {
      Shape shape = x.shape();
      shape[std::size_t(a)] = pads[std::size_t(a + (after ? x.rank() : 0))];
      const Tensor border = full(shape, number(in, 2, 0), x.dtype());
      x = after ? concat({x, border}, a) : concat({border, x}, a);
    }
  return x;
}

// Blocks of b x b pixels to channels and back; DCR and CRD say whether the block or the channel index runs slower.
Tensor depth_to_space(const Node& node, const Tensor& x) {
  const std::int64_t b = node.integer("blocksize", 1), N = x.shape(0), C = x.shape(1) / (b * b), H = x.shape(2), W = x.shape(3);
  const Tensor y = node.text("mode", "DCR") == "DCR" ? permute(reshape(x, {N, b, b, C, H, W}), {0, 3, 4, 1, 5, 2})
                                                     : permute(reshape(x, {N, C, b, b, H, W}), {0, 1, 4, 2, 5, 3});
  return reshape(y, {N, C, H * b, W * b});
}
Tensor space_to_depth(const Node& node, const Tensor& x) {
  const std::int64_t b = node.integer("blocksize", 1), N = x.shape(0), C = x.shape(1), H = x.shape(2) / b, W = x.shape(3) / b;
  return reshape(permute(reshape(x, {N, C, H, b, W, b}), {0, 3, 5, 1, 2, 4}), {N, C * b * b, H, W});
}

Tensor shape_of(const Node& node, const Tensor& x) {
  const auto rank = std::int64_t(x.rank());
  const auto clipped = [rank](std::int64_t i) { return std::clamp(i < 0 ? i + rank : i, std::int64_t(0), rank); };
  const std::int64_t start = clipped(node.integer("start", 0)), end = std::max(start, clipped(node.integer("end", rank)));
  return tensor(std::vector<std::int64_t>(x.shape().begin() + start, x.shape().begin() + end), {end - start});
}

Tensor constant(const Node& node) {
  if (node.has("value")) return node.attributes.at("value").t;
  if (node.has("value_int")) return tensor({node.integer("value_int", 0)}, {});
  if (node.has("value_ints")) return tensor(node.integers("value_ints"), {std::int64_t(node.integers("value_ints").size())});
  if (node.has("value_float")) return tensor({float(node.real("value_float", 0))}, {});
  need(node.has("value_floats"), "a constant of strings");
  const std::vector<double>& values = node.attributes.at("value_floats").floats;
  return tensor(values, {std::int64_t(values.size())}).to(Dtype::float32);
}

Tensor constant_of_shape(const Node& node, const Tensor& shape) {
  const Tensor value = node.has("value") ? node.attributes.at("value").t : zeros({1});
  return full(integers(shape), value.item(), value.dtype());
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
  return trues(node.integer("detect_positive", 1) ? x == infinity : never, node.integer("detect_negative", 1) ? x == -infinity : never) > 0.0;
}

Tensor elu(const Tensor& x, double alpha) { return where(x > 0.0, x, alpha * (exp(minimum(x, zeros_like(x))) - 1.0)); }

List dropout_of(const Node& node, const List& in) {
  const bool training = given(in, 2) && in[2].item() != 0;
  const double p = node.has("ratio") ? node.real("ratio", 0.5) : number(in, 1, 0.5);
  need(!training || p == 0, "Dropout in training draws other random numbers");
  Rng rng(1);
  return {dropout(in[0], 0, rng), ones(in[0].shape(), Dtype::boolean)};
}

Tensor absolute_sum(const Tensor& x, const Over& over) { return sum(abs(x), over); }
Tensor over_axis(const Node& node, const Tensor& x, Tensor (*f)(const Tensor&, int)) { return f(x, int(node.integer("axis", -1))); }

// x and y are the first two inputs.
#define CALL(expression)                                                                                            \
  [](                                                                                                               \
      [[maybe_unused]] const Node& node, const List& in) -> List {                                                  \
    [[maybe_unused]] const Tensor x = input(in, 0), y = input(in, 1);                                               \
    return {expression};                                                                                            \
  }

const std::map<std::string, Call>& calls() {
  static const std::map<std::string, Call> table = {
      {"Add", CALL(x + y)}, {"Sub", CALL(x - y)},
      {"Mul", CALL(x * y)}, {"Div", CALL(divide(x, y))}, {"Pow", CALL(power(x, y))},
      {"Equal", CALL(x == y)}, {"Less", CALL(x < y)},
      {"LessOrEqual", CALL(x <= y)}, {"Greater", CALL(x > y)},
      {"GreaterOrEqual", CALL(x >= y)}, {"And", CALL(trues(x, y) == 2.0)}, {"Or", CALL(trues(x, y) > 0.0)},
      {"Xor", CALL(x != y)}, {"Not", CALL(!x)},
      {"Max", variadic(maximum)}, {"Min", variadic(minimum)}, {"Sum", variadic([](auto& a, auto& b) { return a + b; })},
      {"Mean", [](const Node&, const List& in) -> List { return {mean(stack(in, 0), 0)}; }},
      {"Where", CALL(where(x, y, in[2]))}, {"IsNaN", CALL(isnan(x))}, {"IsInf", CALL(is_infinite(node, x))}, {"Clip", CALL(clip(node, in))},

      {"Abs", CALL(abs(x))}, {"Sign", CALL(sign(x))}, {"Neg", CALL(-x)}, {"Exp", CALL(exp(x))}, {"Log", CALL(log(x))},
      {"Sqrt", CALL(sqrt(x))}, {"Reciprocal", CALL(1.0 / x)}, {"Tanh", CALL(tanh(x))}, {"Sigmoid", CALL(sigmoid(x))},
      {"Relu", CALL(relu(x))}, {"Softplus", CALL(softplus(x))}, {"Erf", CALL(erf(x))}, {"Sin", CALL(sin(x))}, {"Cos", CALL(cos(x))},
      {"Tan", CALL(sin(x) / cos(x))}, {"Identity", CALL(x)},
      {"Sinh", CALL((exp(x) - exp(-x)) / 2.0)}, {"Cosh", CALL((exp(x) + exp(-x)) / 2.0)},
      {"Asinh", CALL(log(x + sqrt(x * x + 1.0)))}, {"Acosh", CALL(log(x + sqrt(x * x - 1.0)))},
      {"Atanh", CALL(log((1.0 + x) / (1.0 - x)) / 2.0)},
      {"Softsign", CALL(x / (1.0 + abs(x)))}, {"HardSwish", CALL(x * clamp(x / 6.0 + 0.5, 0, 1))},
      {"HardSigmoid", CALL(clamp(x * node.real("alpha", 0.2) + node.real("beta", 0.5), 0, 1))},
      {"LeakyRelu", CALL(where(x < 0.0, x * node.real("alpha", 0.01), x))}, {"PRelu", CALL(where(x < 0.0, x * y, x))},
      {"ThresholdedRelu", CALL(where(x > node.real("alpha", 1), x, zeros_like(x)))}, {"Elu", CALL(elu(x, node.real("alpha", 1)))},
      {"Celu", CALL(elu(x / node.real("alpha", 1), 1) * node.real("alpha", 1))},
      {"Selu", CALL(elu(x, node.real("alpha", 1.67326319217681884765625)) * node.real("gamma", 1.05070102214813232421875))},
      {"Shrink", CALL(where(x < -node.real("lambd", 0.5), x + node.real("bias", 0),
                            where(x > node.real("lambd", 0.5), x - node.real("bias", 0), zeros_like(x))))},

      {"ReduceSum", reduction([](auto& x, auto& o) { return sum(x, o); })}, {"ReduceMean", reduction([](auto& x, auto& o) { return mean(x, o); })},
      {"ReduceMax", reduction([](auto& x, auto& o) { return max(x, o); })}, {"ReduceMin", reduction([](auto& x, auto& o) { return min(x, o); })},
      {"ReduceL1", reduction(absolute_sum)}, {"ReduceL2", reduction([](auto& x, auto& o) { return sqrt(sum(x * x, o)); })},
      {"ReduceLogSum", reduction([](auto& x, auto& o) { return log(sum(x, o)); })}, {"ReduceLogSumExp", reduction([](auto& x, auto& o) { return logsumexp(x, o); })},
      {"ReduceSumSquare", reduction([](auto& x, auto& o) { return sum(x * x, o); })}, {"ArgMax", CALL(arg_extreme(node, x))},
      {"ArgMin", CALL(arg_extreme(node, -x))}, {"CumSum", CALL(cumulative(node, in))}, {"Softmax", CALL(over_axis(node, x, softmax))},
      {"LogSoftmax", CALL(over_axis(node, x, log_softmax))}, {"Hardmax", CALL(hardmax(node, x))},
      {"GlobalAveragePool", CALL(mean(x, Over{spatial(x), true}))}, {"GlobalMaxPool", CALL(max(x, Over{spatial(x), true}))},

      {"Reshape", CALL(reshaped(node, in))}, {"Flatten", CALL(flatten(x, node.integer("axis", 1)))},
      {"Squeeze", CALL(drop_axes(x, given(in, 1) ? integers(y) : node.integers("axes")))},
      {"Unsqueeze", CALL(insert_axes(x, given(in, 1) ? integers(y) : node.integers("axes")))},
      {"Transpose", [](const Node& node, const List& in) -> List {
         const std::vector<std::int64_t> perm = node.integers("perm");
         std::vector<int> order(perm.begin(), perm.end());
         for (int a = in[0].rank() - 1; perm.empty() && a >= 0; --a) order.push_back(a);
         return {permute(in[0], order)};
       }},
      {"Concat", CALL(concat(in, int(node.integer("axis", 0))))}, {"Slice", slices}, {"Split", split}, {"Expand", CALL(expand(x, integers(y)))},
      {"Tile", CALL(tile(x, integers(y)))}, {"Pad", CALL(constant_pad(node, in))}, {"Trilu", CALL(diagonal_part(node, in))},
      {"EyeLike", CALL(eye_like(node, x))}, {"DepthToSpace", CALL(depth_to_space(node, x))}, {"SpaceToDepth", CALL(space_to_depth(node, x))},
      {"Shape", CALL(shape_of(node, x))}, {"Size", CALL(tensor({x.size()}, {}))}, {"Constant", CALL(constant(node))},
      {"ConstantOfShape", CALL(constant_of_shape(node, x))}, {"Cast", CALL(x.to(dtype_of(node.integer("to", 1))))},
      {"CastLike", CALL(x.to(y.dtype()))}, {"Range", CALL(arange(x.item(), y.item(), in[2].item(), x.dtype()))},

      {"Gather", CALL(take(x, y, positive_axis(x, node.integer("axis", 0))))}, {"GatherND", CALL(gather_nd(node, in))},
      {"GatherElements", [](const Node& node, const List& in) -> List {
         const int axis = positive_axis(in[0], node.integer("axis", 0));
         return {gather(in[0], axis, wrapped(in[1], in[0].shape(axis)))};
       }},
      {"ScatterElements", CALL(scatter_elements(node, in))}, {"Scatter", CALL(scatter_elements(node, in))}, {"OneHot", CALL(one_hot_of(node, in))},

      {"MatMul", CALL(matmul(x, y))}, {"Gemm", CALL(gemm(node, in))}, {"Einsum", CALL(einsum(node, in))},
      {"LayerNormalization", layer_normalization}, {"BatchNormalization", batch_normalization},
      {"InstanceNormalization", CALL(instance_normalization(node, in))},
      {"MeanVarianceNormalization", [](const Node& node, const List& in) -> List {
         std::vector<int> axes{0, 2, 3};
         if (node.has("axes")) axes.assign(node.integers("axes").begin(), node.integers("axes").end());
         const Tensor variance = var(in[0], {.axes = axes, .keepdims = true, .correction = 0});
         return {(in[0] - mean(in[0], Over{axes, true})) / (sqrt(variance) + 1e-9)};
       }},
      {"NegativeLogLikelihoodLoss", CALL(negative_log_likelihood(node, in))}, {"SoftmaxCrossEntropyLoss", softmax_cross_entropy},
      {"Dropout", dropout_of},
  };
  return table;
}

}  // namespace

std::vector<Tensor> evaluate(const Node& node, const std::vector<Tensor>& inputs) {
  const auto found = calls().find(node.type);
  need(found != calls().end(), "operator " + node.type);
  return found->second(node, inputs);
}

}  // namespace surgeon::tests::onnx
