// Every op, attention and MultiHeadAttention against PyTorch: values, gradients and Hessian-vector products in both
// dtypes, from the files that tests/make_golden.py wrote.
#include <doctest/doctest.h>

#include <algorithm>
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

// The options of attention_rules; the tensors after V are named.
AttentionOptions rules(const Json& o, const List& in, Dtype dtype) {
  AttentionOptions options{.causal = o.value("causal", false), .window = o.value("window", 0), .soft_cap = o.value("soft_cap", 0.0)};
  const Json scale = o.value("scale", Json(true));
  options.scale = scale.is_boolean()  ? Scale(scale.get<bool>())
                  : scale.is_number() ? Scale(scale.get<double>())
                  : scale == "log_n"  ? Scale::log_n() : Scale::inverse();
  const std::string qk_norm = o.value("qk_norm", "none"), weighting = o.value("weighting", "softmax");
  options.qk_norm = qk_norm == "l2" ? QkNorm::l2 : qk_norm == "rms" ? QkNorm::rms : QkNorm::none;
  options.weighting = weighting == "sigmoid"      ? Weighting::sigmoid
                      : weighting == "off_by_one" ? Weighting::off_by_one : Weighting::softmax;
  if (o.contains("sigmoid_bias")) options.sigmoid_bias = o["sigmoid_bias"].get<double>();
  const std::vector<std::string> names = o.value("names", std::vector<std::string>{});
  for (std::size_t i = 0; i < names.size() && i + 3 < in.size(); ++i) {
    if (names[i] == "mask") options.mask = in[3 + i];
    if (names[i] == "bias") options.bias = in[3 + i].to(dtype);
    if (names[i] == "scale") options.scale = Scale(in[3 + i]);
  }
  return options;
}
AttentionResult by_rules(const List& in, const Json& o, bool with_weights) {
  AttentionOptions options = rules(o, in, in[0].dtype());
  options.return_weights = with_weights;
  return attention(in[0], in[1], in[2], options);
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
    {"attention_rules", [](const List& in, const Json& o) { return all(by_rules(in, o, true)); }},
    {"multi_head_attention", [](const List& in, const Json& o) { return all(multi_head(in, o, true)); }},
};

// The same cases by another way: what return_weights = false computes must be the same output and gradients.
const std::map<std::string, Call> other_ways = {
    OP("attention", attend_lean(in, o)),
    OP("attention_rules", by_rules(in, o, false).output),
    OP("multi_head_attention", multi_head(in, o, false).output),
};

// ---- Layers with parameters: the case names them, and they are assigned -----------------------------------------------

struct Answer {
  List outputs = {}, targets = {};   // gradients are asked for the targets
};

// The inputs after the first ones are the parameters, in the order of the case's names.
List assigned(const Parameters& parameters, const List& in, std::size_t first, const Json& o) {
  List targets;
  for (const Json& name : o.at("names")) {
    targets.push_back(parameters[name.get<std::string>()]);
    targets.back().assign(in[first++]);
  }
  CHECK(parameters.size() == targets.size());
  return targets;
}

Activation activation(const Json& o) {
  const std::string name = o.value("activation", "gelu");
  return name == "relu" ? Activation::relu : name == "swiglu" ? Activation::swiglu
       : name == "gelu_tanh" ? Activation::gelu_tanh : Activation::gelu;
}

// Sizes are read off the parameters' shapes.
const Tensor& named(const List& in, std::size_t first, const Json& o, const std::string& name) {
  const Json& names = o.at("names");
  return in.at(first + std::size_t(std::find(names.begin(), names.end(), name) - names.begin()));
}
bool has(const Json& o, const std::string& name) {
  return std::find(o.at("names").begin(), o.at("names").end(), name) != o.at("names").end();
}

BlockConfig block_config(const List& in, std::size_t first, const Json& o, const std::string& prefix, Dtype dtype) {
  BlockConfig config{.heads = o.at("heads"), .activation = activation(o), .dtype = dtype};
  const Tensor& linear1 = named(in, first, o, prefix + "feed_forward.linear1.weight");
  config.d_model = linear1.shape(1);
  config.hidden = linear1.shape(0);
  config.norm_place = o.value("norm_place", "pre") == "pre" ? NormPlace::pre : NormPlace::post;
  config.norm = has(o, prefix + "norm1.bias") ? NormKind::layer : NormKind::rms;
  config.projections.kv_heads = o.value("kv_heads", 0);
  config.projections.bias = has(o, prefix + "attention.W_q.bias");
  config.projections.rotary_base = o.value("rotary_base", 0.0);
  if (has(o, prefix + "attention.scale")) config.projections.learned_scale = 1.0;
  return config;
}

Answer feed_forward_layer(const List& in, const Json& o) {
  Rng rng(1);
  const Tensor& linear1 = named(in, 1, o, "linear1.weight");
  const FeedForward layer(linear1.shape(1), linear1.shape(0), rng, activation(o), in[0].dtype());
  List targets = assigned(layer.parameters(), in, 1, o);
  targets.insert(targets.begin(), in[0]);
  return {{layer(in[0])}, targets};
}

Answer block_layer(const List& in, const Json& o) {
  Rng rng(1);
  const TransformerBlock layer(block_config(in, 1, o, "", in[0].dtype()), rng);
  List targets = assigned(layer.parameters(), in, 1, o);
  targets.insert(targets.begin(), in[0]);
  return {{layer(in[0], rules(o, {}, in[0].dtype())).output}, targets};
}

Answer transformer_loss(const List& in, const Json& o) {
  Rng rng(1);
  const Tensor& embedding = in[2];
  const std::map<std::string, Positions> positions = {{"none", Positions::none}, {"learned", Positions::learned},
      {"sinusoidal", Positions::sinusoidal}, {"rotary", Positions::rotary}, {"alibi", Positions::alibi}};
  TransformerConfig config{.vocabulary = embedding.shape(0), .layers = o.at("layers")};
  config.context = has(o, "positions.weight") ? named(in, 2, o, "positions.weight").shape(0) : in[0].shape(1);
  config.block = block_config(in, 2, o, "blocks.0.", embedding.dtype());
  config.positions = positions.at(o.at("positions"));
  config.causal = o.value("causal", true);
  config.tied = !has(o, "head.weight");
  config.attention = rules(o, {}, embedding.dtype());
  const Transformer model(config, rng);
  const List targets = assigned(model.parameters(), in, 2, o);
  return {{cross_entropy(model(in[0]), in[1])}, targets};
}

const std::map<std::string, std::function<Answer(const List&, const Json&)>> layers_by_name = {
    {"feed_forward", feed_forward_layer}, {"transformer_block", block_layer}, {"transformer_loss", transformer_loss}};

// ---- Running the cases -----------------------------------------------------------------------------------------------

List floating_ones(const List& tensors) {
  List kept;
  for (const Tensor& t : tensors)
    if (is_floating(t.dtype())) kept.push_back(t);
  return kept;
}

// An op's gradients are asked for its floating inputs and its further outputs: weights, scores.
Answer answer(const Call& call, const List& in, const Json& options) {
  Answer made{call(in, options), floating_ones(in)};
  made.targets.insert(made.targets.end(), made.outputs.begin() + 1, made.outputs.end());
  return made;
}

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

const Json& expectation(const Json& test, Dtype dtype) {
  if (test.contains("any")) return test["any"];
  return dtype == Dtype::float32 && test.contains("float32") ? test["float32"] : test["float64"];
}

void check_case(Run& run, const std::string& what, const Json& test, const Call* call, Dtype dtype, double tolerance) {
  const Json& expected = expectation(test, dtype);
  List inputs;
  for (const Json& written : test["inputs"]) inputs.push_back(golden_tensor(written, dtype));
  const auto [outputs, targets] = call ? answer(*call, inputs, test["options"])
                                       : layers_by_name.at(test["op"])(inputs, test["options"]);
  compare(run, what + ": output", outputs, expected["outputs"], tolerance);
  if (expected.contains("gradients")) {
    const Tensor g = golden_draw(outputs[0].shape(), test["cotangent"], "any", outputs[0].dtype());
    const List gradients = grad(outputs[0], targets, {.cotangent = g, .allow_unused = true});
    compare(run, what + ": gradient", gradients, expected["gradients"], tolerance);
  }
  if (expected.contains("hvp")) {
    List vectors = floating_ones(inputs);
    for (std::size_t i = 0; i < vectors.size(); ++i)
      vectors[i] = golden_draw(vectors[i].shape(), test["vectors"][i], "any", dtype);
    compare(run, what + ": H v", hessian_vector(*call, test, inputs, vectors), expected["hvp"], tolerance * 4);
  }
}

void run_case(Run& run, const Json& test, const Call* call, Dtype dtype, const std::string& suffix = "") {
  const std::string what = test["name"].get<std::string>() + " [" + to_string(dtype) + suffix + "]";
  try {
    check_case(run, what, test, call, dtype, dtype == Dtype::float64 ? 1e-12 : 4e-6);
  } catch (const std::exception& error) {
    run.failures.push_back(what + " throws: " + error.what());
  }
}

void run_file(const std::string& file) {
  Run run;
  for (const Json& test : golden_cases(file)) {
    const std::string op = test["op"];
    const Call* const call = calls.contains(op) ? &calls.at(op) : nullptr;
    REQUIRE_MESSAGE((call || layers_by_name.contains(op)), op << " has no call in this file");
    ++run.cases;
    run_case(run, test, call, Dtype::float64);
    if (!test.contains("any")) run_case(run, test, call, Dtype::float32);
    if (!other_ways.contains(op)) continue;
    run_case(run, test, &other_ways.at(op), Dtype::float64, ", no weights");
    run_case(run, test, &other_ways.at(op), Dtype::float32, ", no weights");
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
  TEST_CASE("every score rule agrees with its formula in PyTorch, with weights and without") { run_file("rules.json"); }
  TEST_CASE("feed-forward networks, blocks and two-layer Transformers agree with PyTorch") { run_file("layers.json"); }
  TEST_CASE("MultiHeadAttention agrees with PyTorch, with weights and without") { run_file("heads.json"); }
}
