// Every op, attention and MultiHeadAttention against PyTorch: values, gradients and Hessian-vector products in both
// dtypes, from the files that tests/make_golden.py wrote.
#include <doctest/doctest.h>

#include <functional>
#include <map>

#include "golden.hpp"
#include "layers/layers.hpp"

using namespace surgeon;
using surgeon::tests::golden_cases;
using surgeon::tests::golden_difference;
using surgeon::tests::golden_draw;
using surgeon::tests::golden_scale;
using surgeon::tests::golden_tensor;
using surgeon::tests::Json;

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
  return o.at(name).is_string() ? (o[name] == "-inf" ? -1 : 1) * std::numeric_limits<double>::infinity() : o[name].get<double>();
}

AttentionOptions attention_options(const Json& o, const Tensor& mask) {
  AttentionOptions options{.mask = mask, .return_weights = true};
  if (o.contains("scale")) options.scale = o["scale"].is_boolean() ? Scale(o["scale"].get<bool>()) : Scale(o["scale"].get<double>());
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

#define UNARY(name, call) {name, [](const List& in, const Json&) -> List { return {call(in[0])}; }}
#define BINARY(name, expression) {name, [](const List& in, const Json&) -> List { const Tensor &a = in[0], &b = in[1]; return {expression}; }}
#define NUMBER(name, expression) {name, [](const List& in, const Json& o) -> List { const Tensor& x = in[0]; const double c = value(o); return {expression}; }}
#define OP(name, expression) {name, []([[maybe_unused]] const List& in, [[maybe_unused]] const Json& o) -> List { return {expression}; }}

const std::map<std::string, Call> calls = {
    BINARY("add", a + b), BINARY("sub", a - b), BINARY("mul", a * b), BINARY("div", a / b),
    BINARY("maximum", maximum(a, b)), BINARY("minimum", minimum(a, b)),
    BINARY("equal", a == b), BINARY("not_equal", a != b), BINARY("less", a < b), BINARY("less_equal", a <= b),
    BINARY("greater", a > b), BINARY("greater_equal", a >= b),
    NUMBER("add_number", x + c), NUMBER("number_add", c + x), NUMBER("sub_number", x - c), NUMBER("number_sub", c - x),
    NUMBER("mul_number", x * c), NUMBER("number_mul", c * x), NUMBER("div_number", x / c), NUMBER("number_div", c / x),
    NUMBER("equal_number", x == c), NUMBER("not_equal_number", x != c), NUMBER("less_number", x < c),
    NUMBER("less_equal_number", x <= c), NUMBER("greater_number", x > c), NUMBER("greater_equal_number", x >= c),
    UNARY("neg", -), UNARY("not", !), UNARY("isnan", isnan), UNARY("abs", abs), UNARY("sign", sign), UNARY("exp", exp),
    UNARY("log", log), UNARY("sqrt", sqrt), UNARY("tanh", tanh), UNARY("sigmoid", sigmoid), UNARY("relu", relu),
    UNARY("silu", silu), UNARY("softplus", softplus), UNARY("gelu", gelu), UNARY("erf", erf), UNARY("sin", sin),
    UNARY("cos", cos), OP("gelu_tanh", gelu(in[0], Gelu::tanh)), OP("pow", pow(in[0], value(o, "p"))),
    OP("clamp", clamp(in[0], value(o, "low"), value(o, "high"))), OP("where", where(in[0], in[1], in[2])),
    OP("masked_fill", masked_fill(in[0], in[1], value(o))),
    {"dropout", [](const List& in, const Json& o) -> List { Rng rng(1); return {dropout(in[0], o.at("p"), rng)}; }},
    OP("to", in[0].to(o.at("dtype") == "float32" ? Dtype::float32 : Dtype::float64)),

    OP("sum", sum(in[0], over(o))), OP("mean", mean(in[0], over(o))), OP("max", max(in[0], over(o))),
    OP("min", min(in[0], over(o))), OP("logsumexp", logsumexp(in[0], over(o))),
    OP("var", var(in[0], VarOptions{over(o).axes, over(o).keepdims, o.value("correction", 1)})),
    OP("argmax", argmax(in[0], o.at("axis"))), OP("cumsum", cumsum(in[0], o.at("axis"))),
    OP("softmax", softmax(in[0], o.value("axis", -1))), OP("log_softmax", log_softmax(in[0], o.value("axis", -1))),

    OP("reshape", reshape(in[0], o.at("shape").get<Shape>())), OP("transpose", transpose(in[0], o.at("a"), o.at("b"))),
    OP("permute", permute(in[0], o.at("order").get<std::vector<int>>())),
    {"slice", [](const List& in, const Json& o) -> List {
       const std::int64_t step = o.at("step");   // no stop: to the end in the direction of the step
       return {slice(in[0], o.at("axis"), o.at("start"), o.value("stop", step > 0 ? to_end : -to_end), step)};
     }},
    OP("concat", concat(in, o.at("axis"))), OP("stack", stack(in, o.at("axis"))),
    OP("broadcast_to", broadcast_to(in[0], o.at("shape").get<Shape>())),
    OP("tril", tril(in[0], o.value("diagonal", 0))), OP("triu", triu(in[0], o.value("diagonal", 0))),

    OP("gather", gather(in[0], o.at("axis"), in[1])),
    OP("scatter_add", scatter_add(o.at("shape").get<Shape>(), o.at("axis"), in[1], in[0])),
    OP("embedding", embedding(in[0], in[1])), OP("one_hot", one_hot(in[0], o.at("classes")).to(Dtype::int64)),

    OP("matmul", matmul(in[0], in[1], flips(o))), OP("linear", linear(in[0], in[1], in.size() > 2 ? in[2] : Tensor())),
    OP("layer_norm", layer_norm(in[0], in[1], in[2], o.value("eps", 1e-5))),
    OP("layer_norm_two_pass", layer_norm(in[0], in[1], in[2], o.value("eps", 1e-5))),
    OP("rms_norm", rms_norm(in[0], in[1], o.value("eps", 1e-6))),
    OP("cross_entropy", cross_entropy(in[0], in[1], {reduction(o), o.value("ignore_index", std::int64_t(-100)), o.value("label_smoothing", 0.0)})),
    OP("mse_loss", mse_loss(in[0], in[1], reduction(o))),

    {"attention", [](const List& in, const Json& o) { return all(attend(in, o)); }},
    {"attention_float_mask", [](const List& in, const Json& o) { return all(attend(in, o, in[0].dtype())); }},
    OP("attention_weights", attend(in, o).weights), OP("attention_scores", attend(in, o).scores),
    {"multi_head_attention", [](const List& in, const Json& o) { return all(multi_head(in, o, true)); }},
};

// The same cases by another way: what return_weights = false computes must be the same output and gradients.
const std::map<std::string, Call> other_ways = {
    OP("attention", attend_lean(in, o)),
    OP("multi_head_attention", multi_head(in, o, false).output),
};

struct Run {
  int checked = 0, cases = 0;
  std::vector<std::string> failures = {};
};

void compare(Run& run, const std::string& what, const List& actual, const Json& expected, double tolerance) {
  double noise = 0;   // sums that cancel to 0, like the key bias's gradient, keep rounding of the size of their terms
  for (const Json& one : expected) noise = std::max(noise, golden_scale(one) / 4);
  for (std::size_t i = 0; i < actual.size(); ++i, ++run.checked) {
    const std::string difference = golden_difference(actual[i], expected.at(i), tolerance, noise);
    if (!difference.empty()) run.failures.push_back(what + " " + std::to_string(i) + " " + difference);
  }
}

List floating_ones(const List& tensors) {
  List kept;
  for (const Tensor& t : tensors)
    if (is_floating(t.dtype())) kept.push_back(t);
  return kept;
}

// L = sum(cotangent * (y + y^2 / 2)), whose Hessian is not trivial even for linear ops.
List hessian_vector(const Call& call, const Json& test, const List& inputs, const List& vectors) {
  const auto loss = [&](const List& floating) {
    List in = inputs;
    for (std::size_t i = 0, next = 0; i < in.size(); ++i)
      if (is_floating(in[i].dtype())) in[i] = floating[next++];
    const Tensor y = call(in, test["options"])[0];
    const Tensor g = golden_draw(y.shape(), test["cotangent"], "any", y.dtype());
    return sum(g * (y + y * y / 2.0));
  };
  return hvp(loss, floating_ones(inputs), vectors);
}

void run_case(Run& run, const Json& test, const Call& call, Dtype dtype, double tolerance, const std::string& suffix) {
  const std::string what = test["name"].get<std::string>() + " [" + to_string(dtype) + suffix + "]";
  const Json& expected = test.contains("any") ? test["any"]
                       : dtype == Dtype::float32 && test.contains("float32") ? test["float32"] : test["float64"];
  try {
    List inputs;
    for (const Json& written : test["inputs"]) inputs.push_back(golden_tensor(written, dtype));
    const List outputs = call(inputs, test["options"]);
    compare(run, what + ": output", outputs, expected["outputs"], tolerance);
    if (expected.contains("gradients")) {
      List targets = floating_ones(inputs);
      targets.insert(targets.end(), outputs.begin() + 1, outputs.end());
      const Tensor g = golden_draw(outputs[0].shape(), test["cotangent"], "any", outputs[0].dtype());
      compare(run, what + ": gradient", grad(outputs[0], targets, {.cotangent = g, .allow_unused = true}), expected["gradients"], tolerance);
    }
    if (expected.contains("hvp")) {
      List vectors = floating_ones(inputs);
      for (std::size_t i = 0; i < vectors.size(); ++i)
        vectors[i] = golden_draw(vectors[i].shape(), test["vectors"][i], "any", dtype);
      compare(run, what + ": H v", hessian_vector(call, test, inputs, vectors), expected["hvp"], tolerance * 4);
    }
  } catch (const std::exception& error) {
    run.failures.push_back(what + " throws: " + error.what());
  }
}

void run_file(const std::string& file) {
  Run run;
  for (const Json& test : golden_cases(file)) {
    const std::string op = test["op"];
    REQUIRE_MESSAGE(calls.contains(op), op << " has no call in this file");
    ++run.cases;
    run_case(run, test, calls.at(op), Dtype::float64, 1e-12, "");
    if (test.contains("any")) continue;
    run_case(run, test, calls.at(op), Dtype::float32, 4e-6, "");
    if (!other_ways.contains(op)) continue;
    run_case(run, test, other_ways.at(op), Dtype::float64, 1e-12, ", no weights");
    run_case(run, test, other_ways.at(op), Dtype::float32, 4e-6, ", no weights");
  }
  MESSAGE(file << ": " << run.cases << " cases, " << run.checked << " tensors compared");
  for (const std::string& failure : run.failures) FAIL_CHECK(failure);
  CHECK(run.cases > 0);
}

}  // namespace

TEST_SUITE("golden") {
  TEST_CASE("element-wise ops agree with PyTorch") { run_file("elementwise.json"); }
  TEST_CASE("reductions agree with PyTorch") { run_file("reductions.json"); }
  TEST_CASE("shape ops agree with PyTorch") { run_file("shapes.json"); }
  TEST_CASE("indexing and cross entropy agree with PyTorch") { run_file("indices.json"); }
  TEST_CASE("products and normalisation agree with PyTorch") { run_file("products.json"); }
  TEST_CASE("attention agrees with PyTorch, with weights and without") { run_file("attentions.json"); }
  TEST_CASE("MultiHeadAttention agrees with PyTorch, with weights and without") { run_file("heads.json"); }
}
