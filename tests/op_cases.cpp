#include "tests/op_cases.hpp"

#include "layers/layers.hpp"

namespace surgeon::tests {

namespace {

// A function of the inputs `in`, as an expression.
#define GIVES(...) [=](Args in) -> Tensor { return __VA_ARGS__; }

using Args = const std::vector<Tensor>&;
using Unary = Tensor (*)(const Tensor&);
using Binary = Tensor (*)(const Tensor&, const Tensor&);

// ---- Points --------------------------------------------------------------------------------------------------------

Rng& points() {   // reset at the start of each table, so that a row's points never depend on who asked before
  static thread_local Rng rng(2024);
  return rng;
}

Tensor normal(const Shape& shape) { return randn(shape, points(), Dtype::float64); }
Tensor positive(const Shape& shape) { return rand(shape, points(), Dtype::float64) * 1.5 + 0.4; }

// Off 0 by 0.2 at least, of both signs.
Tensor off_zero(const Shape& shape) {
  const Tensor x = normal(shape);
  return x + where(x < 0.0, full({}, -0.2, Dtype::float64), full({}, 0.2, Dtype::float64));
}

// No two alike: their smallest distance is 0.25.
Tensor distinct(const Shape& shape) {
  std::vector<double> values;
  for (std::int64_t place : permutation(count(shape), points())) values.push_back(0.25 * double(place) - 1.1);
  return tensor(values, shape);
}

Tensor integers(const std::vector<std::int64_t>& values, const Shape& shape) { return tensor(values, shape); }

// ---- The table -----------------------------------------------------------------------------------------------------

class Table {
 public:
  void add(std::string name, std::vector<Tensor> inputs, Function f, int order = 2) {
    for (std::size_t i = 0; i < inputs.size(); ++i) name += (i ? " x " : " ") + to_string(inputs[i].shape());
    rows.push_back({std::move(name), std::move(f), std::move(inputs), order});
  }
  void unary(const std::string& name, const Tensor& x, Unary f, int order = 2) {
    add(name, {x}, GIVES(f(in[0])), order);
  }
  void binary(const std::string& name, const Tensor& a, const Tensor& b, Binary f, int order = 2) {
    add(name, {a, b}, GIVES(f(in[0], in[1])), order);
  }

  std::vector<OpCase> rows;
};

// Scalar, row, column, inner, outer, both sides, rank-raising, size 1, size 0, and sizes that fill vector registers.
const std::vector<std::pair<Shape, Shape>>& broadcasts() {
  static const std::vector<std::pair<Shape, Shape>> pairs = {
      {{2, 3}, {2, 3}}, {{}, {}},           {{}, {2, 3}},       {{2, 3}, {}},          {{2, 3}, {3}},
      {{3}, {2, 3}},    {{2, 3}, {2, 1}},   {{2, 1}, {2, 3}},   {{2, 1}, {1, 3}},      {{2, 1, 4}, {3, 1}},
      {{2, 3, 2}, {3, 1}}, {{2, 1, 2}, {2, 3, 2}}, {{1, 1}, {2, 3}}, {{3}, {2, 2, 3}}, {{1}, {1, 1, 1}},
      {{0, 3}, {1, 3}}, {{2, 0}, {2, 1}},   {{5, 37}, {37}},    {{37, 5}, {37, 1}},    {{3, 4, 19}, {3, 1, 19}}};
  return pairs;
}

void arithmetic(Table& table) {
  for (const auto& [a, b] : broadcasts()) {
    table.binary("a + b", normal(a), normal(b), [](const Tensor& x, const Tensor& y) { return x + y; });
    table.binary("a - b", normal(a), normal(b), [](const Tensor& x, const Tensor& y) { return x - y; });
    table.binary("a * b", normal(a), normal(b), [](const Tensor& x, const Tensor& y) { return x * y; }, 3);
    table.binary("a / b", normal(a), positive(b), [](const Tensor& x, const Tensor& y) { return x / y; });
  }
  using Pair = std::pair<Shape, Shape>;
  const std::vector<Pair> pairs = {{{2, 3}, {2, 3}}, {{2, 3}, {3}}, {{2, 1}, {1, 3}}, {{}, {4}}, {{9, 7}, {7}}};
  for (const auto& [a, b] : pairs) {
    // One operand on a grid, the other half a step beside it: never a tie.
    table.binary("maximum", distinct(a), distinct(b) + 0.125, maximum);
    table.binary("minimum", distinct(a), distinct(b) + 0.125, minimum);
  }
  const auto number = [&](const char* name, auto f) { table.add(name, {positive({2, 5})}, GIVES(f(in[0]))); };
  number("x + 2.5", [](const Tensor& x) { return x + 2.5; });
  number("2.5 + x", [](const Tensor& x) { return 2.5 + x; });
  number("x - 2.5", [](const Tensor& x) { return x - 2.5; });
  number("2.5 - x", [](const Tensor& x) { return 2.5 - x; });
  number("x * 2.5", [](const Tensor& x) { return x * 2.5; });
  number("2.5 * x", [](const Tensor& x) { return 2.5 * x; });
  number("x / 2.5", [](const Tensor& x) { return x / 2.5; });
  number("2.5 / x", [](const Tensor& x) { return 2.5 / x; });
  number("-x", [](const Tensor& x) { return -x; });
  // One tensor on both sides, and one that reaches the result on three ways.
  number("x * x", [](const Tensor& x) { return x * x; });
  number("x / x + x x", [](const Tensor& x) { return x / (x + 1.0) + x * x * x; });
}

void functions(Table& table) {
  for (const Shape& shape : {Shape{2, 3}, Shape{37}, Shape{}, Shape{0, 2}}) {
    table.unary("abs", off_zero(shape), abs);
    table.unary("sign", off_zero(shape), sign);
    table.unary("exp", normal(shape), exp, 3);
    table.unary("log", positive(shape), log, 3);
    table.unary("sqrt", positive(shape), sqrt, 3);
    table.unary("tanh", normal(shape), tanh, 3);
    table.unary("sigmoid", normal(shape), sigmoid, 3);
    table.unary("relu", off_zero(shape), relu);
    table.unary("silu", normal(shape), silu);
    table.unary("softplus", normal(shape), softplus);
    table.unary("erf", normal(shape), erf);
    table.unary("sin", normal(shape), sin);
    table.unary("cos", normal(shape), cos);
    table.unary("gelu exact", normal(shape), [](const Tensor& x) { return gelu(x); });
    table.unary("gelu tanh", normal(shape), [](const Tensor& x) { return gelu(x, Gelu::tanh); });
    for (double p : {2.0, 3.0, -1.0, 0.5, 2.7, 1.0, 0.0})
      table.add("pow " + std::to_string(p), {positive(shape)}, GIVES(pow(in[0], p)));
  }
  for (double p : {2.0, 3.0, -2.0})   // whole powers of negative numbers
    table.add("pow of both signs " + std::to_string(p), {off_zero({2, 3})}, GIVES(pow(in[0], p)));
  table.unary("sigmoid far out", tensor({-30.0, -8.0, 8.0, 30.0}, {4}), sigmoid);
  table.unary("softplus far out", tensor({-40.0, -8.0, 8.0, 40.0}, {4}), softplus);
  table.unary("silu far out", tensor({-40.0, -8.0, 8.0, 40.0}, {4}), silu);
  table.unary("gelu far out", tensor({-6.0, -3.0, 3.0, 6.0}, {4}), [](const Tensor& x) { return gelu(x); });
  table.add("clamp", {tensor({-2.0, -0.9, 0.1, 0.8, 2.0, 3.0}, {2, 3})}, GIVES(clamp(in[0] * 1.1, -1.0, 1.5)));
  table.add("clamp, long", {distinct({41})}, GIVES(clamp(in[0], -0.7, 3.0)));
}

void choices(Table& table) {
  const Tensor mask = tensor({true, false, true, false, false, true}, {2, 3}), row = tensor({true, false, true}, {3});
  for (const auto& [a, b] : {std::pair<Shape, Shape>{{2, 3}, {2, 3}}, {{3}, {2, 1}}, {{}, {2, 3}}, {{2, 2, 3}, {3}}})
    table.add("where", {normal(a), normal(b)}, GIVES(where(mask, in[0], in[1])), 3);
  table.add("where, row condition", {normal({2, 3}), normal({})}, GIVES(where(row, in[0], in[1])));
  table.add("where of one tensor", {normal({2, 3})}, GIVES(where(mask, in[0], in[0] * in[0])));
  table.add("masked_fill", {normal({2, 3})}, GIVES(masked_fill(in[0], mask, -3.0)), 3);
  table.add("masked_fill, row mask", {normal({2, 2, 3})}, GIVES(exp(masked_fill(in[0], row, -1e9))), 3);
  table.add("masked_fill, float mask", {normal({2, 3})}, GIVES(sin(masked_fill(in[0], mask.to(in[0].dtype()), 0.5))));
  const auto drop = [](double p) { return [p](Args in) { Rng rng(7); return dropout(in[0] * in[0], p, rng); }; };
  table.add("dropout 0.4", {normal({5, 8})}, drop(0.4));
  table.add("dropout 0", {normal({3})}, drop(0.0));
  table.add("dropout 1", {normal({3})}, drop(1.0));
}

void reductions(Table& table) {
  const std::vector<Over> overs = {{},        {{0}},       {{-1}},      {{1}},          {{0, 2}},
                                   {{-1, 1}}, {{0, 1, 2}}, {{1}, true}, {{2, 0}, true}, {{}, true}};
  for (std::size_t k = 0; k < overs.size(); ++k) {
    const Over over = overs[k];
    const std::string tag = " over " + std::to_string(k);
    const auto add = [&](const char* name, const Tensor& x, Tensor (*f)(const Tensor&, const Over&), int order = 2) {
      table.add(name + tag, {x}, GIVES(f(in[0], over)), order);
    };
    add("sum", normal({2, 3, 4}), sum, 3);
    add("mean", normal({2, 3, 4}), mean);
    add("max", distinct({2, 3, 4}), max);
    add("min", distinct({2, 3, 4}), min);
    add("logsumexp", normal({2, 3, 4}), logsumexp, 3);
    add("sum of squares", normal({2, 3, 4}), [](const Tensor& x, const Over& o) { return sum(x * x, o); });
    add("max of squares", positive({2, 3, 4}), [](const Tensor& x, const Over& o) { return max(x * x * x, o); });
    for (int correction : {1, 0})
      table.add("var" + tag, {normal({2, 3, 4})}, GIVES(var(in[0], {over.axes, over.keepdims, correction})));
  }
  table.unary("sum of a scalar", normal({}), [](const Tensor& x) { return sum(x * x); });
  table.unary("sum of nothing", normal({0, 3}), [](const Tensor& x) { return sum(x, 0); });
  table.unary("sum, no rows", normal({0, 3}), [](const Tensor& x) { return sum(x, 1); });
  table.unary("sum, long", normal({3, 70}), [](const Tensor& x) { return sum(x * x, -1); });
  table.unary("sum, tall", normal({70, 3}), [](const Tensor& x) { return sum(x * x, 0); });
  table.unary("mean, long", normal({3, 70}), [](const Tensor& x) { return mean(x * x, -1); });
  table.unary("max, long", distinct({3, 70}), [](const Tensor& x) { return max(x, -1); });
  table.unary("max, tall", distinct({70, 3}), [](const Tensor& x) { return max(x, 0); });
  table.unary("min, long", distinct({3, 70}), [](const Tensor& x) { return min(x, -1); });
  table.unary("logsumexp, long", normal({3, 70}), [](const Tensor& x) { return logsumexp(x, -1); });
  table.unary("logsumexp, tall", normal({70, 3}), [](const Tensor& x) { return logsumexp(x, 0); });
  table.unary("logsumexp of a scalar", normal({}), [](const Tensor& x) { return logsumexp(x * x); });
  table.unary("max of a scalar", normal({}), [](const Tensor& x) { return max(x * x); });
  for (int axis : {0, 1, -1}) {
    table.add("cumsum " + std::to_string(axis), {normal({2, 3, 4})}, GIVES(cumsum(in[0] * in[0], axis)));
    table.add("softmax " + std::to_string(axis), {normal({2, 3, 4})}, GIVES(softmax(in[0], axis)), 3);
    table.add("log_softmax " + std::to_string(axis), {normal({2, 3, 4})}, GIVES(log_softmax(in[0], axis)), 3);
  }
  for (const Shape& shape : {Shape{5}, Shape{3, 1}, Shape{2, 41}, Shape{0, 3}}) {
    table.unary("softmax", normal(shape), [](const Tensor& x) { return softmax(x); }, 3);
    table.unary("log_softmax", normal(shape), [](const Tensor& x) { return log_softmax(x); }, 3);
  }
  table.unary("cumsum, long", normal({2, 41}), [](const Tensor& x) { return cumsum(x * x, 1); });
}

void shapes(Table& table) {
  const auto add = [&](const char* name, const Shape& shape, Unary f, int order = 2) {
    // Squared first, so that the second derivative is not trivial.
    table.add(name, {normal(shape)}, GIVES(f(in[0] * in[0])), order);
  };
  add("reshape [-1, 4]", {2, 6}, [](const Tensor& x) { return reshape(x, {-1, 4}); }, 3);
  add("reshape to a scalar", {1, 1}, [](const Tensor& x) { return reshape(x, {}); });
  add("reshape of nothing", {0, 4}, [](const Tensor& x) { return reshape(x, {2, 0}); });
  add("transpose", {3, 4}, [](const Tensor& x) { return transpose(x, 0, 1); }, 3);
  add("transpose -1, -2", {2, 3, 4}, [](const Tensor& x) { return transpose(x, -1, -2); }, 3);
  add("transpose 0, 2", {2, 3, 4}, [](const Tensor& x) { return transpose(x, 0, 2); });
  add("transpose 1, 1", {2, 3}, [](const Tensor& x) { return transpose(x, 1, 1); });
  add("transpose, heads", {2, 5, 3, 4}, [](const Tensor& x) { return transpose(x, 1, 2); }, 3);
  add("transpose, blocks", {35, 70}, [](const Tensor& x) { return transpose(x, 0, 1); });
  add("permute 2, 0, 1", {2, 3, 4}, [](const Tensor& x) { return permute(x, {2, 0, 1}); }, 3);
  add("permute -1, 1, 0", {2, 3, 4}, [](const Tensor& x) { return permute(x, {-1, 1, 0}); });
  add("permute 0, 2, 1, 3", {2, 3, 4, 5}, [](const Tensor& x) { return permute(x, {0, 2, 1, 3}); });
  add("permute 3, 1, 2, 0", {2, 3, 4, 5}, [](const Tensor& x) { return permute(x, {3, 1, 2, 0}); });
  add("permute of a scalar", {}, [](const Tensor& x) { return permute(x, {}); });
  add("slice 1:3", {4, 3}, [](const Tensor& x) { return slice(x, 0, 1, 3); });
  add("slice ::2", {2, 5}, [](const Tensor& x) { return slice(x, -1, 0, to_end, 2); });
  add("slice 1::3", {2, 7, 2}, [](const Tensor& x) { return slice(x, 1, 1, to_end, 3); });
  add("slice -3:-1", {2, 5}, [](const Tensor& x) { return slice(x, 1, -3, -1); });
  add("slice ::-1", {5, 2}, [](const Tensor& x) { return slice(x, 0, -1, -to_end, -1); });
  add("slice 4:0:-2", {2, 6}, [](const Tensor& x) { return slice(x, 1, 4, 0, -2); });
  add("slice to nothing", {4, 2}, [](const Tensor& x) { return slice(x, 0, 3, 1); });
  add("broadcast_to row", {3}, [](const Tensor& x) { return broadcast_to(x, {2, 3}); });
  add("broadcast_to column", {3, 1}, [](const Tensor& x) { return broadcast_to(x, {2, 3, 4}); });
  add("broadcast_to from a scalar", {}, [](const Tensor& x) { return broadcast_to(x, {2, 2}); });
  add("broadcast_to the same", {2, 2}, [](const Tensor& x) { return broadcast_to(x, {2, 2}); });
  add("broadcast_to nothing", {1, 3}, [](const Tensor& x) { return broadcast_to(x, {0, 3}); });
  for (std::int64_t diagonal : {0, 1, -1, 5, -5}) {
    table.add("tril " + std::to_string(diagonal), {normal({3, 4})}, GIVES(tril(in[0] * in[0], diagonal)));
    table.add("triu " + std::to_string(diagonal), {normal({2, 4, 3})}, GIVES(triu(in[0] * in[0], diagonal)));
  }
  const auto join = [](int axis) { return GIVES(sin(concat(in, axis))); };
  table.add("concat 0", {normal({2, 3}), normal({1, 3})}, join(0), 3);
  table.add("concat -1", {normal({2, 3}), normal({2, 1}), normal({2, 2})}, join(-1));
  table.add("concat 1", {normal({2, 1, 3}), normal({2, 2, 3})}, join(1));
  table.add("concat with nothing", {normal({0, 3}), normal({2, 3})}, join(0));
  table.add("concat of one", {normal({2, 3})}, join(1));
  table.add("concat of six", {normal({2}), normal({1}), normal({3}), normal({1}), normal({2}), normal({2})}, join(0));
  table.add("concat of one tensor twice", {normal({2, 3})}, GIVES(concat({in[0], in[0] * in[0], in[0]}, 1)));
  for (int axis : {0, 1, 2, -1})
    table.add("stack " + std::to_string(axis), {normal({2, 3}), normal({2, 3})}, GIVES(cos(stack(in, axis))));
  table.add("stack of scalars", {normal({}), normal({}), normal({})}, GIVES(sin(stack(in, 0))));
  table.unary("to and back", normal({2, 3}), [](const Tensor& x) { return (x * x).to(x.dtype()); });
}

void indices(Table& table) {
  const Tensor along0 = integers({0, 2, 1, 0, 2, 2}, {2, 3}), along1 = integers({1, 0, 0, 2, 2, 2}, {3, 2});
  table.add("gather 0", {normal({3, 3})}, GIVES(gather(in[0] * in[0], 0, along0)));
  table.add("gather -1", {normal({3, 3})}, GIVES(gather(in[0] * in[0], -1, along1)));
  const Tensor middle = integers({2, 0, 1, 1, 0, 0, 2, 2}, {2, 2, 2});
  table.add("gather in the middle", {normal({2, 3, 2})}, GIVES(sin(gather(in[0], 1, middle))));
  table.add("gather of nothing", {normal({3, 2})}, GIVES(gather(in[0], 0, integers({}, {0, 2}))));
  table.add("scatter_add 0", {normal({2, 3})}, GIVES(scatter_add({3, 3}, 0, along0, in[0] * in[0])));
  table.add("scatter_add 1", {normal({3, 2})}, GIVES(sin(scatter_add({3, 4}, 1, along1, in[0]))));
  table.add("embedding", {normal({4, 3})}, GIVES(sin(embedding(in[0], integers({3, 0, 3, 1}, {2, 2})))));
  table.add("embedding of one index", {normal({4, 3})}, GIVES(sin(embedding(in[0], integers({2}, {})))));
  table.add("embedding of nothing", {normal({4, 3})}, GIVES(embedding(in[0], integers({}, {0}))));
}

void products(Table& table) {
  const auto add = [&](const Shape& a, const Shape& b, MatmulOptions options = {}, int order = 3) {
    std::string name = "matmul";
    if (options.transpose_a) name += " a^T";
    if (options.transpose_b) name += " b^T";
    table.add(name, {normal(a), normal(b)}, GIVES(matmul(in[0], in[1], options)), order);
  };
  const MatmulOptions ta{.transpose_a = true}, tb{.transpose_b = true}, both{.transpose_a = true, .transpose_b = true};
  add({2, 3}, {3, 4});
  add({3, 2}, {3, 4}, ta);
  add({2, 3}, {4, 3}, tb);
  add({3, 2}, {4, 3}, both);
  add({3}, {3});
  add({3}, {3, 4});
  add({2, 3}, {3});
  add({3}, {2, 3, 4});
  add({2, 2, 3}, {3});
  add({3}, {4, 3}, tb);
  add({3, 2}, {3}, ta);
  add({2, 2, 3}, {2, 3, 2});
  add({2, 3, 2}, {2, 3, 2}, ta);
  add({2, 2, 3}, {2, 2, 3}, tb);
  add({2, 3, 2}, {2, 2, 3}, both);
  add({2, 2, 3}, {3, 2});
  add({2, 2, 3}, {2, 3}, tb);
  add({2, 3, 2}, {3, 2}, ta);
  add({2, 3}, {2, 3, 2});
  add({3, 2}, {2, 3, 2}, ta);
  add({2, 3}, {2, 2, 3}, tb);
  add({1, 2, 3}, {2, 3, 2});
  add({2, 2, 3}, {1, 3, 2});
  add({2, 1, 2, 3}, {3, 3, 2}, {}, 2);
  add({2, 3, 2, 2}, {2, 3, 2, 2}, tb, 2);
  add({2, 1, 3, 2}, {1, 2, 3, 2}, ta, 2);
  add({3, 0}, {0, 4});
  add({0, 3}, {3, 4});
  add({0, 2, 3}, {3, 2});
  add({1, 1}, {1, 1});
  add({9, 17}, {17, 11}, {}, 2);
  add({2, 9, 17}, {2, 13, 17}, tb, 2);
  table.add("matmul of one tensor", {normal({3, 3})}, GIVES(matmul(in[0], in[0], {.transpose_b = true})));
  table.add("matmul of one tensor, a^T", {normal({2, 3, 3})}, GIVES(matmul(in[0], in[0], {.transpose_a = true})));

  const auto affine = GIVES(linear(in[0], in[1], in.size() > 2 ? in[2] : Tensor()));
  table.add("linear", {normal({2, 3}), normal({4, 3}), normal({4})}, affine, 3);
  table.add("linear", {normal({2, 3}), normal({4, 3})}, affine, 3);
  table.add("linear", {normal({3}), normal({4, 3}), normal({4})}, affine);
  table.add("linear", {normal({2, 2, 3}), normal({4, 3}), normal({4})}, affine, 3);
  table.add("linear", {normal({2, 1, 2, 3}), normal({2, 3})}, affine);
  table.add("linear", {normal({0, 3}), normal({2, 3}), normal({2})}, affine);
  table.add("linear", {normal({2, 0}), normal({3, 0}), normal({3})}, affine);
  table.add("linear", {normal({7, 19}), normal({18, 19}), normal({18})}, affine);
}

void normalisations(Table& table) {
  const auto norm = GIVES(layer_norm(in[0], in[1], in[2], 1e-3));
  const auto rms = GIVES(rms_norm(in[0], in[1], 1e-3));
  for (const Shape& shape : {Shape{2, 4}, Shape{5}, Shape{2, 3, 3}, Shape{3, 37}}) {
    const Shape last = {shape.back()};
    table.add("layer_norm", {normal(shape), normal(last), normal(last)}, norm, 3);
    table.add("rms_norm", {normal(shape), normal(last)}, rms, 3);
  }
  table.add("layer_norm, no rows", {normal({0, 3}), normal({3}), normal({3})}, norm);
  table.add("layer_norm of one tensor", {normal({3, 3})}, GIVES(layer_norm(in[0], mean(in[0], 0), sum(in[0], 1), 0.1)));
}

void losses(Table& table) {
  const Tensor target = integers({2, 0, 3}, {3}), some = integers({2, -100, 3}, {3});
  const Tensor grid = integers({0, 1, 1, 2}, {2, 2});
  for (Reduction reduction : {Reduction::mean, Reduction::sum, Reduction::none}) {
    const std::string tag = reduction == Reduction::mean ? " mean" : reduction == Reduction::sum ? " sum" : " none";
    const auto add = [&](const char* name, const Tensor& t, const Shape& shape, CrossEntropyOptions options,
                         int order = 2) {
      options.reduction = reduction;
      table.add(name + tag, {normal(shape)}, GIVES(cross_entropy(in[0], t, options)), order);
    };
    add("cross_entropy", target, {3, 4}, {}, 3);
    add("cross_entropy, some ignored", some, {3, 4}, {});
    add("cross_entropy, ignore_index 0", target, {3, 4}, {.ignore_index = 0});
    add("cross_entropy, smoothed", target, {3, 4}, {.label_smoothing = 0.2});
    add("cross_entropy, smoothed and ignored", some, {3, 4}, {.label_smoothing = 0.3});
    add("cross_entropy, smoothed wholly", target, {3, 4}, {.label_smoothing = 1.0});
    add("cross_entropy of a grid", grid, {2, 2, 3}, {});
    add("cross_entropy of one row", integers({1}, {}), {3}, {});
    add("cross_entropy, many classes", target, {3, 39}, {.label_smoothing = 0.1});
    table.add("mse_loss" + tag, {normal({2, 3}), normal({2, 3})}, GIVES(mse_loss(in[0], in[1], reduction)));
  }
}

void attentions(Table& table) {
  const auto add = [&](const char* name, std::vector<Tensor> inputs, AttentionOptions options, int order = 3) {
    table.add(name, std::move(inputs), GIVES(attention(in[0], in[1], in[2], options).output), order);
  };
  const auto qkv = [](std::int64_t Tq, std::int64_t Tk, std::int64_t d_k, std::int64_t d_v) {
    return std::vector<Tensor>{normal({2, Tq, d_k}), normal({2, Tk, d_k}), normal({2, Tk, d_v})};
  };
  const Tensor dead_row = tensor({true, true, false, false, false, false, true, false, true}, {3, 3});
  for (bool keep : {false, true}) {
    const auto with = [keep](Tensor mask, Scale scale) {
      return AttentionOptions{.mask = std::move(mask), .scale = scale, .return_weights = keep};
    };
    const auto name = [keep](const char* text) { return std::string(text) + (keep ? ", weights kept" : ""); };
    add(name("attention").c_str(), qkv(2, 3, 2, 3), with({}, true));
    add(name("attention, unscaled").c_str(), qkv(3, 2, 3, 2), with({}, false));
    add(name("attention, scale 0.3").c_str(), qkv(2, 2, 2, 1), with({}, 0.3));
    add(name("attention, causal").c_str(), qkv(3, 3, 2, 2), with(causal_mask(3), true));
    add(name("attention, reverse").c_str(), qkv(3, 3, 2, 2), with(reverse_mask(3), true));
    add(name("attention, a dead row").c_str(), qkv(3, 3, 2, 2), with(dead_row, true));
    add(name("attention, mask per batch").c_str(), qkv(1, 3, 2, 2),
        with(tensor({true, false, true, false, false, false}, {2, 1, 3}), true));
    add(name("attention, float mask").c_str(), qkv(3, 3, 1, 2), with(dead_row.to(Dtype::float64), true), 1);
    add(name("attention, four axes").c_str(),
        {normal({2, 2, 3, 2}), normal({2, 2, 3, 2}), normal({2, 2, 3, 2})}, with(causal_mask(3), true), 2);
    add(name("attention, longer").c_str(), {normal({1, 19, 9}), normal({1, 21, 9}), normal({1, 21, 10})},
        with({}, true), 2);
    add(name("attention, longer, causal").c_str(), {normal({1, 21, 9}), normal({1, 21, 9}), normal({1, 21, 10})},
        with(causal_mask(21), true), 2);
    // Few queries, and widths that fill vectors: a kernel of its own.
    add(name("attention, wide").c_str(), qkv(5, 7, 16, 8), with({}, true), 2);
    add(name("attention, wide, a dead row").c_str(), qkv(3, 3, 16, 16), with(dead_row, 0.3), 2);
    add(name("attention of nothing").c_str(), {normal({0, 2, 3}), normal({0, 2, 3}), normal({0, 2, 3})},
        with({}, true), 1);
  }
  const auto plain = [](std::span<const Tensor> in) {
    return matmul(softmax(matmul(in[0], in[1], {.transpose_b = true})), in[2]);
  };
  table.add("fused_attention", qkv(3, 4, 2, 3), GIVES(fused_attention(in[0], in[1], in[2], {}, plain)));
  const auto scored = [](Args in) {
    const auto r = attention(in[0], in[1], in[2], {.mask = causal_mask(3), .return_weights = true});
    return concat({r.output, r.weights * r.weights}, 2);
  };
  table.add("attention's output and weights", qkv(3, 3, 2, 2), scored);
  table.add("self-attention of one tensor", {normal({2, 3, 2})},
            GIVES(attention(in[0], in[0], in[0], {.mask = causal_mask(3)}).output), 3);
  table.add("MultiHeadAttention", {normal({2, 3, 4})}, [](Args in) {
    Rng rng(5);
    const MultiHeadAttention mha(4, 2, rng, in[0].dtype());
    return mha(in[0], {.mask = causal_mask(3)}).output;
  });
}

}  // namespace

std::vector<OpCase> op_cases() {
  points() = Rng(2024);
  Table table;
  for (const auto group : {arithmetic, functions, choices, reductions, shapes, indices, products, normalisations,
                           losses, attentions})
    group(table);
  return std::move(table.rows);
}

}  // namespace surgeon::tests
