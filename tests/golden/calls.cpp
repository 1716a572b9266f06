// The ops by the names that make_golden.py gives them, linear algebra, attention and its score rules.
#include "tests/golden/calls.hpp"

#include <functional>
#include <limits>
#include <map>
#include <string>

#include "framework/linalg.hpp"

namespace surgeon::tests {
namespace {

using List = std::vector<Tensor>;
using Call = std::function<List(const List& in, const Json& options)>;

Over over(const Json& o) { return {o.value("axes", std::vector<int>{}), o.value("keepdims", false)}; }
MatmulOptions flips(const Json& o) { return {o.value("transpose_a", false), o.value("transpose_b", false)}; }
Reduction reduction(const Json& o) {
  const std::string name = o.value("reduction", "mean");
  return name == "none" ? Reduction::none : name == "sum" ? Reduction::sum : Reduction::mean;
}
double value(const Json& o, const char* name = "value") {   // infinities are strings
  if (!o.at(name).is_string()) return o[name].get<double>();
  return (o[name] == "-inf" ? -1 : 1) * std::numeric_limits<double>::infinity();
}

Tensor weights(const Json& o, Dtype dtype) {   // of classes
  if (!o.contains("weights")) return {};
  const std::vector<double> values = o["weights"];
  return tensor(values, {std::int64_t(values.size())}).to(dtype);
}

AttentionOptions attention_options(const Json& o, const Tensor& mask) {
  AttentionOptions options{.mask = mask, .return_weights = true};
  if (o.contains("scale"))
    options.scale = o["scale"].is_boolean() ? Scale(o["scale"].get<bool>()) : Scale(o["scale"].get<double>());
  return options;
}
AttentionResult attend(const List& in, const Json& o, Dtype mask_dtype = Dtype::boolean) {
  return attention(in[0], in[1], in[2], attention_options(o, in.size() > 3 ? in[3].to(mask_dtype) : Tensor()));
}
List all(const AttentionResult& result) { return {result.output, result.weights, result.scores}; }
// The path without weights, which may be a kernel of its own.
Tensor attend_lean(const List& in, const Json& o) {
  AttentionOptions options = attention_options(o, in.size() > 3 ? in[3] : Tensor());
  options.return_weights = false;
  return attention(in[0], in[1], in[2], options).output;
}
AttentionResult multi_head(const List& in, const Json& o, bool with_weights) {
  Rng rng(1);
  MultiHeadAttention layer(in[0].shape(-1), o.at("heads"), rng, in[0].dtype());
  Linear* const parts[] = {&layer.W_q, &layer.W_k, &layer.W_v, &layer.W_o};
  for (std::size_t i = 0; i < 4; ++i) parts[i]->weight = in[1 + 2 * i], parts[i]->bias = in[2 + 2 * i];
  AttentionOptions options = attention_options(o, in.size() > 9 ? in[9] : Tensor());
  options.return_weights = with_weights;
  return layer(in[0], options);
}

AttentionResult by_rules(const List& in, const Json& o, bool with_weights) {
  AttentionOptions options = golden_rules(o, in, in[0].dtype());
  options.return_weights = with_weights;
  return attention(in[0], in[1], in[2], options);
}

// What linear algebra is asked for does not depend on the choice of singular vectors and eigenvectors.
Tensor row(const Tensor& x) {
  Shape shape = x.shape();
  shape.insert(shape.end() - 1, 1);
  return reshape(x, shape);
}
Tensor svd_function(const Tensor& x) {
  const auto [U, S, Vh] = linalg::svd(x);
  return matmul(U * row(tanh(S)), Vh);
}
Tensor eigh_function(const Tensor& x) {
  const auto [w, V] = linalg::eigh(x);
  return matmul(V * row(tanh(w)), V, {.transpose_b = true});
}
linalg::Norm norm_kind(const std::string& name) {
  using enum linalg::Norm;
  const std::map<std::string, linalg::Norm> kinds = {{"two", two}, {"one", one}, {"infinity", infinity},
                                                     {"frobenius", frobenius}, {"spectral", spectral},
                                                     {"nuclear", nuclear}};
  return kinds.at(name);
}

// x, y and z are the first three inputs.
#define OP(name, expression)                                                                       \
  {                                                                                                \
    name, []([[maybe_unused]] const List& in, [[maybe_unused]] const Json& o) -> List {            \
      const auto input = [&in](std::size_t i) { return i < in.size() ? in[i] : Tensor(); };        \
      [[maybe_unused]] const Tensor x = input(0), y = input(1), z = input(2);                      \
      return {expression};                                                                         \
    }                                                                                              \
  }

const std::map<std::string, Call> calls = {
    OP("add", x + y), OP("sub", x - y), OP("mul", x * y), OP("div", x / y),
    OP("maximum", maximum(x, y)), OP("minimum", minimum(x, y)),
    OP("equal", x == y), OP("not_equal", x != y), OP("less", x < y), OP("less_equal", x <= y),
    OP("greater", x > y), OP("greater_equal", x >= y),
    OP("add_number", x + value(o)), OP("number_add", value(o) + x), OP("sub_number", x - value(o)),
    OP("number_sub", value(o) - x),
    OP("mul_number", x * value(o)), OP("number_mul", value(o) * x), OP("div_number", x / value(o)),
    OP("number_div", value(o) / x),
    OP("equal_number", x == value(o)), OP("not_equal_number", x != value(o)), OP("less_number", x < value(o)),
    OP("less_equal_number", x <= value(o)), OP("greater_number", x > value(o)),
    OP("greater_equal_number", x >= value(o)),
    OP("neg", -x), OP("not", !x), OP("isnan", isnan(x)), OP("abs", abs(x)), OP("sign", sign(x)), OP("exp", exp(x)),
    OP("log", log(x)), OP("sqrt", sqrt(x)), OP("tanh", tanh(x)), OP("sigmoid", sigmoid(x)), OP("relu", relu(x)),
    OP("silu", silu(x)), OP("softplus", softplus(x)), OP("gelu", gelu(x)), OP("erf", erf(x)), OP("sin", sin(x)),
    OP("cos", cos(x)), OP("gelu_tanh", gelu(x, Gelu::tanh)), OP("pow", pow(x, value(o, "p"))),
    OP("clamp", clamp(x, value(o, "low"), value(o, "high"))), OP("where", where(x, y, z)),
    OP("masked_fill", masked_fill(x, y, value(o))),
    {"dropout", [](const List& in, const Json& o) -> List { Rng rng(1); return {dropout(in[0], o.at("p"), rng)}; }},
    OP("to", x.to(o.at("dtype") == "float32" ? Dtype::float32 : Dtype::float64)),

    OP("sum", sum(x, over(o))), OP("mean", mean(x, over(o))), OP("max", max(x, over(o))),
    OP("min", min(x, over(o))), OP("logsumexp", logsumexp(x, over(o))),
    OP("var", var(x, VarOptions{over(o).axes, over(o).keepdims, o.value("correction", 1)})),
    OP("argmax", argmax(x, o.at("axis"))), OP("cumsum", cumsum(x, o.at("axis"))),
    OP("softmax", softmax(x, o.value("axis", -1))), OP("log_softmax", log_softmax(x, o.value("axis", -1))),

    OP("reshape", reshape(x, o.at("shape").get<Shape>())), OP("transpose", transpose(x, o.at("a"), o.at("b"))),
    OP("permute", permute(x, o.at("order").get<std::vector<int>>())),
    {"slice", [](const List& in, const Json& o) -> List {
       const std::int64_t step = o.at("step");   // no stop: to the end in the direction of the step
       return {slice(in[0], o.at("axis"), o.at("start"), o.value("stop", step > 0 ? to_end : -to_end), step)};
     }},
    OP("concat", surgeon::concat(in, o.at("axis"))), OP("stack", stack(in, o.at("axis"))),
    OP("broadcast_to", broadcast_to(x, o.at("shape").get<Shape>())),
    OP("tril", tril(x, o.value("diagonal", 0))), OP("triu", triu(x, o.value("diagonal", 0))),

    OP("gather", gather(x, o.at("axis"), y)),
    OP("scatter_add", scatter_add(o.at("shape").get<Shape>(), o.at("axis"), y, x)),
    OP("embedding", embedding(x, y)), OP("one_hot", one_hot(x, o.at("classes")).to(Dtype::int64)),

    OP("matmul", matmul(x, y, flips(o))), OP("linear", linear(x, y, z)),
    OP("layer_norm", layer_norm(x, y, z, o.value("eps", 1e-5))),
    OP("layer_norm_two_pass", layer_norm(x, y, z, o.value("eps", 1e-5))),
    OP("rms_norm", rms_norm(x, y, o.value("eps", 1e-6))),
    OP("cross_entropy", cross_entropy(x, y, {reduction(o), o.value("ignore_index", std::int64_t(-100)),
                                             o.value("label_smoothing", 0.0)})),
    OP("mse_loss", mse_loss(x, y, reduction(o))),

    OP("singular_values", linalg::singular_values(x)), OP("eigenvalues", linalg::eigh(x).values),
    OP("svd_function", svd_function(x)), OP("eigh_function", eigh_function(x)),
    OP("cholesky", linalg::cholesky(matmul(x, x, {.transpose_b = true}) + eye(x.shape(-1), x.dtype()))),
    OP("solve", linalg::solve(x, y)), OP("inverse", linalg::inverse(x)),
    OP("slogdet", linalg::slogdet(x).logabsdet), OP("slogdet_sign", linalg::slogdet(x).sign),
    OP("matrix_power", linalg::matrix_power(x, o.at("n"))),
    OP("norm", linalg::norm(x, norm_kind(o.at("kind")), {.keepdims = o.value("keepdims", false)})),

    OP("isinf", isinf(x)), OP("isfinite", isfinite(x)), OP("and", x && y), OP("or", x || y),
    OP("log1p", log1p(x)), OP("expm1", expm1(x)), OP("floor", floor(x)), OP("ceil", ceil(x)), OP("round", round(x)),
    OP("leaky_relu", leaky_relu(x, value(o, "slope"))), OP("elu", elu(x, value(o, "alpha"))),
    OP("pow_tensor", pow(x, y)), OP("pow_of_number", pow(value(o, "a"), x)),
    OP("stddev", stddev(x, VarOptions{over(o).axes, over(o).keepdims, o.value("correction", 1)})),
    OP("prod", prod(x, over(o))), OP("any", any(x, over(o))), OP("all", surgeon::all(x, over(o))),
    OP("argmin", argmin(x, o.at("axis"))), OP("cumprod", cumprod(x, o.at("axis"))),
    OP("cumsum_how", cumsum(x, o.at("axis"), {o.value("reverse", false), o.value("exclusive", false)})),

    OP("squeeze", squeeze(x, o.value("axes", std::vector<int>{}))), OP("unsqueeze", unsqueeze(x, o.at("axis"))),
    OP("flatten", flatten(x, o.at("first"), o.at("last"))),
    {"split_part", [](const List& in, const Json& o) -> List {
       const std::size_t part = o.at("part");
       if (o.at("size").is_array()) return {split(in[0], o["size"].get<Shape>(), o.at("axis"))[part]};
       return {split(in[0], o["size"].get<std::int64_t>(), o.at("axis"))[part]};
     }},
    OP("chunk_part", chunk(x, o.at("chunks"), o.at("axis"))[o.at("part").get<std::size_t>()]),
    OP("tile", tile(x, o.at("repeats").get<Shape>())), OP("flip", flip(x, o.at("axes").get<std::vector<int>>())),
    OP("roll", roll(x, o.at("shift"), o.at("axis"))), OP("diagonal", diagonal(x, o.at("first"), o.at("second"))),
    {"pad", [](const List& in, const Json& o) -> List {
       std::vector<Padding::Width> widths;
       for (const Json& width : o.at("widths")) widths.push_back({width.at(0), width.at(1)});
       const std::string mode = o.at("mode");
       const PadMode how = mode == "edge" ? PadMode::edge : mode == "reflect" ? PadMode::reflect : PadMode::constant;
       return {pad(in[0], widths, {.mode = how, .value = o.value("value", 0.0)})};
     }},
    OP("take", take(x, y, o.at("axis"))),
    OP("sort_values", sort(x, o.at("axis"), o.value("descending", false) ? Order::descending : Order::ascending).values),
    OP("argsort", argsort(x, o.at("axis"), o.value("descending", false) ? Order::descending : Order::ascending)),
    OP("topk_values",
       topk(x, o.at("k"), o.at("axis"), o.value("largest", true) ? Order::descending : Order::ascending).values),
    OP("scatter", scatter(x, o.at("axis"), y, z)), OP("bincount", bincount(x, o.value("at_least", 0))),
    OP("einsum", einsum(o.at("spec"), in)),
    OP("conv1d", conv1d(x, y, z, {.stride = o.value("stride", 1), .padding = o.value("padding", 0),
                                  .dilation = o.value("dilation", 1), .groups = o.value("groups", 1)})),
    OP("layer_norm_axes", layer_norm(x, {.axes = o.at("axes").get<std::vector<int>>(), .gamma = y, .beta = z})),
    OP("rms_norm_bare", rms_norm(x)),
    OP("cross_entropy_weighted", cross_entropy(x, y, {reduction(o), o.value("ignore_index", std::int64_t(-100)),
                                                      o.value("label_smoothing", 0.0), weights(o, x.dtype())})),
    OP("nll_loss", nll_loss(x, y, {reduction(o), o.value("ignore_index", std::int64_t(-100)), weights(o, x.dtype())})),
    OP("bce_with_logits", bce_with_logits(x, y, {reduction(o), z, input(3)})),
    OP("kl_div", kl_div(x, y, {reduction(o), o.value("log_target", false)})),

    {"attention", [](const List& in, const Json& o) { return all(attend(in, o)); }},
    {"attention_float_mask", [](const List& in, const Json& o) { return all(attend(in, o, in[0].dtype())); }},
    OP("attention_weights", attend(in, o).weights), OP("attention_scores", attend(in, o).scores),
    {"attention_rules", [](const List& in, const Json& o) { return all(by_rules(in, o, true)); }},
    {"multi_head_attention", [](const List& in, const Json& o) { return all(multi_head(in, o, true)); }},
};

const std::map<std::string, Call> lean_ways = {
    OP("attention", attend_lean(in, o)),
    OP("attention_rules", by_rules(in, o, false).output),
    OP("multi_head_attention", multi_head(in, o, false).output),
};

Answer ask(const std::map<std::string, Call>& table, const std::string& op, const List& in, const Json& options) {
  Answer made{table.at(op)(in, options), floating_ones(in)};
  made.targets.insert(made.targets.end(), made.outputs.begin() + 1, made.outputs.end());
  return made;
}

}  // namespace

Answer golden_answer(const std::string& op, const std::vector<Tensor>& inputs, const Json& options) {
  return golden_is_layer(op) ? golden_layer(op, inputs, options) : ask(calls, op, inputs, options);
}

bool golden_has_lean_way(const std::string& op) { return lean_ways.contains(op); }
Answer golden_lean_answer(const std::string& op, const std::vector<Tensor>& inputs, const Json& options) {
  return ask(lean_ways, op, inputs, options);
}

std::vector<Tensor> floating_ones(const std::vector<Tensor>& tensors) {
  List kept;
  for (const Tensor& t : tensors)
    if (is_floating(t.dtype())) kept.push_back(t);
  return kept;
}

}  // namespace surgeon::tests
