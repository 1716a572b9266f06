// Every op, attention with every score rule, and the layers against PyTorch: values, gradients and Hessian-vector
// products in both dtypes, from the files that tests/make_golden.py wrote.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "tests/golden/calls.hpp"

using namespace surgeon;
using namespace surgeon::tests;

namespace {

using List = std::vector<Tensor>;
using Ask = std::function<Answer(const std::string& op, const List& inputs, const Json& options)>;

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
List hessian_vector(const Ask& ask, const Json& test, const List& inputs, const List& vectors) {
  const auto loss = [&](const List& floating) {
    List in = inputs;
    for (std::size_t i = 0, next = 0; i < in.size(); ++i)
      if (is_floating(in[i].dtype())) in[i] = floating[next++];
    const Tensor y = ask(test["op"], in, test["options"]).outputs[0];
    const Tensor g = golden_draw(y.shape(), test["cotangent"], "any", y.dtype());
    return sum(g * (y + y * y / 2.0));
  };
  return hvp(loss, floating_ones(inputs), vectors);
}

const Json& expectation(const Json& test, Dtype dtype) {
  if (test.contains("any")) return test["any"];
  return dtype == Dtype::float32 && test.contains("float32") ? test["float32"] : test["float64"];
}

void check_case(Run& run, const std::string& what, const Json& test, const Ask& ask, Dtype dtype, double tolerance) {
  const Json& expected = expectation(test, dtype);
  List inputs;
  for (const Json& written : test["inputs"]) inputs.push_back(golden_tensor(written, dtype));
  const auto [outputs, targets] = ask(test["op"], inputs, test["options"]);
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
    compare(run, what + ": H v", hessian_vector(ask, test, inputs, vectors), expected["hvp"], tolerance * 4);
  }
}

void run_case(Run& run, const Json& test, const Ask& ask, Dtype dtype, const std::string& suffix = "") {
  const std::string what = test["name"].get<std::string>() + " [" + to_string(dtype) + suffix + "]";
  try {
    check_case(run, what, test, ask, dtype, dtype == Dtype::float64 ? 1e-12 : 4e-6);
  } catch (const std::exception& error) {
    run.failures.push_back(what + " throws: " + error.what());
  }
}

void run_file(const std::string& file) {
  Run run;
  for (const Json& test : golden_cases(file)) {
    const std::string op = test["op"];
    ++run.cases;
    run_case(run, test, golden_answer, Dtype::float64);
    if (!test.contains("any")) run_case(run, test, golden_answer, Dtype::float32);
    if (!golden_has_lean_way(op)) continue;
    run_case(run, test, golden_lean_answer, Dtype::float64, ", no weights");
    run_case(run, test, golden_lean_answer, Dtype::float32, ", no weights");
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
  TEST_CASE("linear algebra agrees with PyTorch") { run_file("linear_algebra.json"); }
  TEST_CASE("attention agrees with PyTorch, with weights and without") { run_file("attentions.json"); }
  TEST_CASE("every score rule agrees with its formula in PyTorch, with weights and without") { run_file("rules.json"); }
  TEST_CASE("feed-forward networks, blocks and two-layer Transformers agree with PyTorch") { run_file("layers.json"); }
  TEST_CASE("more functions, reductions and scans agree with PyTorch") { run_file("functions.json"); }
  TEST_CASE("arrangements, sorting, einsum, convolution and losses agree with PyTorch") { run_file("arrangements.json"); }
  TEST_CASE("MultiHeadAttention agrees with PyTorch, with weights and without") { run_file("heads.json"); }
}
