// ONNX operators on shapes, places and types. Meanings: the operator documents of ONNX 1.12 to 1.17 (opsets 17 to 22).
#include "tests/onnx/operators.hpp"

#include <algorithm>
#include <numeric>

namespace surgeon::tests::onnx {
namespace {

Tensor expand(const Tensor& x, Shape shape) {   // ONNX: a 1 in the target keeps x's own size
  Shape own = x.shape();
  own.insert(own.begin(), shape.size() > own.size() ? shape.size() - own.size() : 0, 1);
  shape.insert(shape.begin(), own.size() - shape.size(), 1);
  for (std::size_t i = 0; i < own.size(); ++i) shape[i] = shape[i] == 1 ? own[i] : shape[i];
  return broadcast_to(x, shape);
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

List split(const Node& node, const List& in) {
  const int axis = positive_axis(in[0], node.integer("axis", 0));
  std::vector<std::int64_t> sizes = given(in, 1) ? integers(in[1]) : node.integers("split");
  const auto parts = std::int64_t(node.outputs.size());
  const std::int64_t size = in[0].shape(axis), even = (size + parts - 1) / parts;
  for (std::int64_t i = 0; std::ssize(sizes) < parts; ++i) sizes.push_back(std::min(even, size - i * even));
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

Tensor one_hot_of(const Node& node, const List& in) {
  const auto classes = std::int64_t(in[1].item());
  const Tensor hot = one_hot(wrapped(in[0].to(Dtype::int64), classes), classes, Dtype::boolean);
  const Tensor off = slice(in[2], 0, 0, 1), on = slice(in[2], 0, 1, 2);
  Tensor y = where(hot, on, off);   // the new axis comes last
  const int axis = positive_axis(y, node.integer("axis", -1));
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

// x with the elements at index set to updates (or added to).
Tensor scatter_elements(const Node& node, const List& in) {
  const int axis = positive_axis(in[0], node.integer("axis", 0));
  const Tensor index = wrapped(in[1], in[0].shape(axis));
  const std::string reduction = node.text("reduction", "none");
  if (reduction == "add") return in[0] + scatter_add(in[0].shape(), axis, index, in[2]);
  need(reduction == "none", "ScatterElements by " + reduction);
  return scatter(in[0], axis, index, in[2]);
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

Tensor padded(const Node& node, const List& in) {
  const std::vector<std::int64_t> pads = integers(in[1]);
  const std::string mode = node.text("mode", "constant");
  need(mode != "wrap", "Pad by wrapping around");
  std::vector<std::int64_t> axes(std::size_t(in[0].rank()));
  std::iota(axes.begin(), axes.end(), std::int64_t(0));
  if (given(in, 3)) axes = integers(in[3]);
  std::vector<Padding::Width> widths(std::size_t(in[0].rank()), Padding::Width{0, 0});
  for (std::size_t i = 0; i < axes.size(); ++i)
    widths[std::size_t(positive_axis(in[0], axes[i]))] = {pads[i], pads[i + axes.size()]};
  const PadMode how = mode == "edge" ? PadMode::edge : mode == "reflect" ? PadMode::reflect : PadMode::constant;
  return pad(in[0], widths, {.mode = how, .value = number(in, 2, 0)});
}

// Blocks of b x b pixels to channels and back; DCR and CRD say whether the block or the channel index runs slower.
Tensor depth_to_space(const Node& node, const Tensor& x) {
  const std::int64_t b = node.integer("blocksize", 1), N = x.shape(0), C = x.shape(1) / (b * b);
  const std::int64_t H = x.shape(2), W = x.shape(3);
  const Tensor y = node.text("mode", "DCR") == "DCR" ? permute(reshape(x, {N, b, b, C, H, W}), {0, 3, 4, 1, 5, 2})
                                                     : permute(reshape(x, {N, C, b, b, H, W}), {0, 1, 4, 2, 5, 3});
  return reshape(y, {N, C, H * b, W * b});
}

Tensor space_to_depth(const Node& node, const Tensor& x) {
  const std::int64_t b = node.integer("blocksize", 1), N = x.shape(0), C = x.shape(1);
  const std::int64_t H = x.shape(2) / b, W = x.shape(3) / b;
  return reshape(permute(reshape(x, {N, C, H, b, W, b}), {0, 3, 5, 1, 2, 4}), {N, C * b * b, H, W});
}

Tensor shape_of(const Node& node, const Tensor& x) {
  const auto rank = std::int64_t(x.rank());
  const auto clipped = [rank](std::int64_t i) { return std::clamp(i < 0 ? i + rank : i, std::int64_t(0), rank); };
  const std::int64_t start = clipped(node.integer("start", 0));
  const std::int64_t end = std::max(start, clipped(node.integer("end", rank)));
  return tensor(std::vector<std::int64_t>(x.shape().begin() + start, x.shape().begin() + end), {end - start});
}

Tensor constant(const Node& node) {
  if (node.has("value")) return node.attributes.at("value").t;
  if (node.has("value_int")) return tensor({node.integer("value_int", 0)}, {});
  const std::vector<std::int64_t> list = node.integers("value_ints");
  if (!list.empty()) return tensor(list, {std::int64_t(list.size())});
  if (node.has("value_float")) return tensor({float(node.real("value_float", 0))}, {});
  need(node.has("value_floats"), "a constant of strings");
  const std::vector<double>& values = node.attributes.at("value_floats").floats;
  return tensor(values, {std::int64_t(values.size())}).to(Dtype::float32);
}

Tensor constant_of_shape(const Node& node, const Tensor& shape) {
  const Tensor value = node.has("value") ? node.attributes.at("value").t : zeros({1});
  return full(integers(shape), value.item(), value.dtype());
}

}  // namespace

const Operators& shape_operators() {
  static const Operators table = {
    {"Reshape", CALL(reshaped(node, in))}, {"Flatten", CALL(two_axes(x, node.integer("axis", 1)))},
    {"Squeeze", CALL(drop_axes(x, given(in, 1) ? integers(y) : node.integers("axes")))},
    {"Unsqueeze", CALL(insert_axes(x, given(in, 1) ? integers(y) : node.integers("axes")))},
    {"TopK", [](const Node& node, const List& in) -> List {
         const Order order = node.integer("largest", 1) ? Order::descending : Order::ascending;
         const Sorted found = topk(in[0], in[1].values<std::int64_t>()[0], int(node.integer("axis", -1)), order);
         return {found.values, found.indices};
       }},
    {"Transpose", [](const Node& node, const List& in) -> List {
         const std::vector<std::int64_t> perm = node.integers("perm");
         std::vector<int> order(perm.begin(), perm.end());
         for (int a = in[0].rank() - 1; perm.empty() && a >= 0; --a) order.push_back(a);
         return {permute(in[0], order)};
       }},
    {"Concat", CALL(concat(in, int(node.integer("axis", 0))))}, {"Slice", slices}, {"Split", split},
    {"Expand", CALL(expand(x, integers(y)))}, {"Tile", CALL(tile(x, integers(y)))},
    {"Pad", CALL(padded(node, in))}, {"Trilu", CALL(diagonal_part(node, in))},
    {"EyeLike", CALL(eye_like(node, x))}, {"DepthToSpace", CALL(depth_to_space(node, x))},
    {"SpaceToDepth", CALL(space_to_depth(node, x))}, {"Shape", CALL(shape_of(node, x))},
    {"Size", CALL(tensor({x.size()}, {}))}, {"Constant", CALL(constant(node))},
    {"ConstantOfShape", CALL(constant_of_shape(node, x))}, {"Cast", CALL(x.to(dtype_of(node.integer("to", 1))))},
    {"CastLike", CALL(x.to(y.dtype()))}, {"Range", CALL(arange(x.item(), y.item(), in[2].item(), x.dtype()))},
    {"Identity", CALL(x)}, {"Gather", CALL(take(x, y, positive_axis(x, node.integer("axis", 0))))},
    {"GatherND", CALL(gather_nd(node, in))},
    {"GatherElements", [](const Node& node, const List& in) -> List {
         const int axis = positive_axis(in[0], node.integer("axis", 0));
         return {gather(in[0], axis, wrapped(in[1], in[0].shape(axis)))};
       }},
    {"ScatterElements", CALL(scatter_elements(node, in))}, {"Scatter", CALL(scatter_elements(node, in))},
    {"OneHot", CALL(one_hot_of(node, in))},
  };
  return table;
}

}  // namespace surgeon::tests::onnx
