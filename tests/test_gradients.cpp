// Every rule of every op against differences; fused ops against plain ones; and the checker itself against rules that
// are wrong on purpose.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "layers/layers.hpp"
#include "tests/op_cases.hpp"

using namespace surgeon;
using tests::OpCase;

namespace {

const std::vector<OpCase>& table() {
  static const std::vector<OpCase> rows = tests::op_cases();
  return rows;
}

double largest_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  if (a.size() == 0) return 0.0;
  return max(abs(a.to(Dtype::float64) - b.to(Dtype::float64))).item();
}

Tensor normal(const Shape& shape, std::uint64_t seed) {
  Rng rng(seed);
  return randn(shape, rng, Dtype::float64);
}

// x^2 with a gradient that is `factor` times right; its second derivative likewise.
Tensor wrong_square(const Tensor& x, double factor) {
  return record("wrong_square", {x}, (x * x).detach(),
                [factor](const Ins& in, Out, Grad g) -> Grads { return {g * in[0] * (2.0 * factor)}; });
}

bool mentions(const GradcheckResult& result, const std::string& text) {
  const bool found = result.message.find(text) != std::string::npos;
  if (!found) MESSAGE("the message was: ", result.message);
  return found;
}

}  // namespace

TEST_SUITE("gradients") {

TEST_CASE("gradients: every row of the op table agrees with differences, to its order") {
  CHECK(table().size() > 300);
  for (const OpCase& row : table()) {
    const GradcheckResult result = gradcheck(row.f, row.inputs, {.order = row.order});
    CHECK_MESSAGE(result.passed, row.name, ": ", result.message);
  }
}

TEST_CASE("gradients: every single element of every row's gradient agrees with its difference") {
  for (const OpCase& row : table()) {
    std::int64_t elements = 0;
    for (const Tensor& x : row.inputs) elements += x.size();
    if (elements > 500) continue;
    const GradcheckResult result = gradcheck(row.f, row.inputs, {.every_element = true});
    CHECK_MESSAGE(result.passed, row.name, ": ", result.message);
  }
}

TEST_CASE("gradients: values and gradients in float32 are those in float64, rounded") {
  for (const OpCase& row : table()) {
    INFO(row.name);
    std::vector<Tensor> narrow, wide;
    for (const Tensor& x : row.inputs) {
      narrow.push_back(x.to(Dtype::float32));
      wide.push_back(narrow.back().to(Dtype::float64));   // the same points exactly
    }
    const Tensor y = row.f(narrow), y64 = row.f(wide);
    REQUIRE(y.dtype() == Dtype::float32);
    const double size = y64.size() ? max(abs(y64)).item() : 0.0;
    CHECK(largest_difference(y, y64) <= 4e-6 * (1.0 + size));
    const Tensor g = normal(y.shape(), 3).to(Dtype::float32);
    const auto of_y = grad(y, narrow, {.cotangent = g, .allow_unused = true});
    const auto of_y64 = grad(y64, wide, {.cotangent = g.to(Dtype::float64), .allow_unused = true});
    for (std::size_t i = 0; i < of_y.size(); ++i) {
      REQUIRE(of_y[i].dtype() == Dtype::float32);
      const double scale = of_y64[i].size() ? max(abs(of_y64[i])).item() : 0.0;
      CHECK(largest_difference(of_y[i], of_y64[i]) <= 2e-5 * (1.0 + scale));
    }
  }
}

// ---- Fused ops and the same functions in plain ones ----------------------------------------------------------------

namespace {

struct Twin {
  const char* name;
  Function fused, plain;
  std::vector<Tensor> inputs;
};

Over keep(int axis) { return {.axes = {axis}, .keepdims = true}; }

Tensor plain_softmax(const Tensor& x, int axis) {
  const Tensor e = exp(x - stop_gradient(max(x, keep(axis))));
  return e / sum(e, keep(axis));
}

Tensor plain_log_softmax(const Tensor& x, int axis) {
  const Tensor shifted = x - stop_gradient(max(x, keep(axis)));
  return shifted - log(sum(exp(shifted), keep(axis)));
}

Tensor plain_layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps) {
  const Tensor centred = x - mean(x, keep(-1));
  return centred / sqrt(mean(centred * centred, keep(-1)) + eps) * gamma + beta;
}

// Smoothing spreads s over all C classes, so the target class has 1 - s + s / C.
Tensor plain_cross_entropy(const Tensor& logits, const Tensor& target, double s) {
  const std::int64_t C = logits.shape(-1);
  const Tensor p = one_hot(target, C, logits.dtype()) * (1.0 - s) + s / double(C);
  return -mean(sum(p * plain_log_softmax(logits, -1), -1));
}

Tensor plain_attention(const Tensor& Q, const Tensor& K, const Tensor& V, const Tensor& mask) {
  Tensor scores = matmul(Q, transpose(K, -1, -2)) / std::sqrt(double(Q.shape(-1)));
  if (!mask.empty()) scores = masked_fill(scores, !mask, -1e30);
  return matmul(plain_softmax(scores, -1), V);
}

std::vector<Twin> twins() {
  using In = const std::vector<Tensor>&;
  std::vector<Twin> all;
  std::uint64_t seed = 100;
  const auto draw = [&](const Shape& shape) { return normal(shape, seed++); };
  for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 70}, Shape{1, 1}, Shape{33, 4}})
    for (int axis : {0, -1}) {
      all.push_back({"softmax", [=](In in) { return softmax(in[0], axis); },
                     [=](In in) { return plain_softmax(in[0], axis); }, {draw(shape)}});
      all.push_back({"log_softmax", [=](In in) { return log_softmax(in[0], axis); },
                     [=](In in) { return plain_log_softmax(in[0], axis); }, {draw(shape)}});
      all.push_back({"logsumexp", [=](In in) { return logsumexp(in[0], axis); },
                     [=](In in) { return log(sum(exp(in[0]), axis)); }, {draw(shape)}});
      all.push_back({"var", [=](In in) { return var(in[0], {.axes = {axis}, .correction = 0}); },
                     [=](In in) { return mean(pow(in[0] - mean(in[0], keep(axis)), 2.0), axis); }, {draw(shape)}});
    }
  for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 70}, Shape{4, 16}}) {
    const Shape last = {shape.back()};
    all.push_back({"layer_norm", [](In in) { return layer_norm(in[0], in[1], in[2], 1e-5); },
                   [](In in) { return plain_layer_norm(in[0], in[1], in[2], 1e-5); },
                   {draw(shape), draw(last), draw(last)}});
    all.push_back({"rms_norm", [](In in) { return rms_norm(in[0], in[1], 1e-6); },
                   [](In in) { return in[0] / sqrt(mean(in[0] * in[0], keep(-1)) + 1e-6) * in[1]; },
                   {draw(shape), draw(last)}});
  }
  for (double s : {0.0, 0.1})
    all.push_back({"cross_entropy",
                   [=](In in) { return cross_entropy(in[0], tensor({1, 0, 30}, {3}), {.label_smoothing = s}); },
                   [=](In in) { return plain_cross_entropy(in[0], tensor({1, 0, 30}, {3}), s); }, {draw({3, 33})}});
  all.push_back({"linear", [](In in) { return linear(in[0], in[1], in[2]); },
                 [](In in) { return matmul(in[0], transpose(in[1], 0, 1)) + in[2]; },
                 {draw({2, 3, 5}), draw({4, 5}), draw({4})}});
  all.push_back({"silu", [](In in) { return silu(in[0]); }, [](In in) { return in[0] * sigmoid(in[0]); },
                 {draw({50})}});
  all.push_back({"gelu", [](In in) { return gelu(in[0]); },
                 [](In in) { return in[0] * (erf(in[0] / std::sqrt(2.0)) + 1.0) * 0.5; }, {draw({50})}});
  all.push_back({"gelu tanh", [](In in) { return gelu(in[0], Gelu::tanh); },
                 [](In in) {
                   const Tensor& x = in[0];
                   return 0.5 * x * (1.0 + tanh((x + 0.044715 * (x * x * x)) * 0.7978845608028654));
                 }, {draw({50})}});
  all.push_back({"softplus", [](In in) { return softplus(in[0]); }, [](In in) { return log(exp(in[0]) + 1.0); },
                 {draw({50})}});
  for (const Tensor& mask : {Tensor(), causal_mask(7), reverse_mask(7)})
    for (bool with_weights : {false, true})
      all.push_back({with_weights ? "attention with weights" : "attention",
                     [=](In in) {
                       return attention(in[0], in[1], in[2], {.mask = mask, .return_weights = with_weights}).output;
                     },
                     [=](In in) { return plain_attention(in[0], in[1], in[2], mask); },
                     {draw({2, 7, 5}), draw({2, 7, 5}), draw({2, 7, 9})}});
  return all;
}

void check_twin(const Twin& twin, Dtype dtype, double tolerance) {
  INFO(twin.name, " of ", to_string(twin.inputs[0].shape()), " in ", to_string(dtype));
  std::vector<Tensor> in;
  for (const Tensor& x : twin.inputs) in.push_back(x.to(dtype));
  const Tensor a = twin.fused(in), b = twin.plain(in);
  CHECK(largest_difference(a, b) <= tolerance);
  const Tensor g = normal(a.shape(), 7).to(dtype);
  for (bool create_graph : {false, true}) {
    const auto da = grad(a, in, {.cotangent = g, .create_graph = create_graph});
    const auto db = grad(b, in, {.cotangent = g});
    for (std::size_t i = 0; i < in.size(); ++i) CHECK(largest_difference(da[i], db[i]) <= 4 * tolerance);
  }
}

}  // namespace

TEST_CASE("gradients: fused ops equal the same functions in plain ops, value and gradients, in both dtypes") {
  for (const Twin& twin : twins()) {
    check_twin(twin, Dtype::float64, 1e-13);
    check_twin(twin, Dtype::float32, 4e-6);
  }
}

TEST_CASE("gradients: second derivatives of fused ops equal those of plain ops") {
  for (const Twin& twin : twins()) {
    INFO(twin.name);
    std::vector<Tensor> vectors;
    for (const Tensor& x : twin.inputs) vectors.push_back(normal(x.shape(), 11));
    const auto squared = [](const Function& f) -> Function {
      return [f](const std::vector<Tensor>& in) { const Tensor y = f(in); return sum(y * y); };
    };
    const auto a = hvp(squared(twin.fused), twin.inputs, vectors), b = hvp(squared(twin.plain), twin.inputs, vectors);
    for (std::size_t i = 0; i < a.size(); ++i)
      CHECK(largest_difference(a[i], b[i]) <= 1e-11 * (1.0 + max(abs(b[i])).item()));
  }
}

// ---- What the documents say at ties and kinks ----------------------------------------------------------------------

TEST_CASE("gradients: ties of max and min share the gradient equally") {
  const Tensor x = tensor({1.0, 3.0, 3.0, 3.0, 0.0, 0.0}, {2, 3});
  const auto [of_max] = grad(max(x), {x});
  CHECK(largest_difference(of_max, tensor({0.0, 1 / 3., 1 / 3., 1 / 3., 0.0, 0.0}, {2, 3})) < 1e-16);
  const auto [rows] = grad(sum(max(x, -1)), {x});
  CHECK(largest_difference(rows, tensor({0.0, 0.5, 0.5, 1.0, 0.0, 0.0}, {2, 3})) < 1e-16);
  const auto [of_min] = grad(sum(min(x, -1)), {x});
  CHECK(largest_difference(of_min, tensor({1.0, 0.0, 0.0, 0.0, 0.5, 0.5}, {2, 3})) < 1e-16);
}

TEST_CASE("gradients: a tie of maximum and minimum gives halves, also when broadcast") {
  const Tensor a = tensor({1.0, 2.0, 3.0}, {3}), b = tensor({2.0}, {1});
  for (auto f : {static_cast<Tensor (*)(const Tensor&, const Tensor&)>(maximum), minimum}) {
    const auto [da, db] = grad(sum(f(a, b)), {a, b});
    CHECK(da.at({1}) == 0.5);
    CHECK(db.item() == 1.5);
  }
}

TEST_CASE("gradients: relu'(0) = 0, abs'(0) = 0, clamp passes on its bounds, sign has derivative 0") {
  const Tensor x = tensor({-1.0, 0.0, 2.0}, {3});
  const auto of = [&](const Tensor& y) { return grad(sum(y), {x}, {.allow_unused = true})[0]; };
  CHECK(largest_difference(of(relu(x)), tensor({0.0, 0.0, 1.0}, {3})) == 0.0);
  CHECK(largest_difference(of(abs(x)), tensor({-1.0, 0.0, 1.0}, {3})) == 0.0);
  CHECK(largest_difference(of(clamp(x, 0.0, 2.0)), tensor({0.0, 1.0, 1.0}, {3})) == 0.0);
  CHECK(largest_difference(of(sign(x)), zeros({3}, Dtype::float64)) == 0.0);
}

TEST_CASE("gradients: pow at 0 has the derivative of its polynomial") {
  const Tensor x = zeros({1}, Dtype::float64);
  for (const auto& [p, slope] : {std::pair{0.0, 0.0}, {1.0, 1.0}, {2.0, 0.0}, {3.0, 0.0}})
    CHECK(grad(pow(x, p), {x})[0].item() == slope);
  const auto [first] = grad(pow(x, 2.0), {x}, {.create_graph = true});
  CHECK(grad(first, {x})[0].item() == 2.0);
}

TEST_CASE("gradients: stop_gradient and detach stop them, `to` converts them") {
  const Tensor x = tensor({2.0, 3.0}, {2});
  CHECK(largest_difference(grad(sum(x * stop_gradient(x)), {x})[0], x) == 0.0);
  CHECK(largest_difference(grad(sum(x * x.detach()), {x})[0], x) == 0.0);
  const Tensor narrow = x.to(Dtype::float32);
  const auto [dx] = grad(sum(narrow * narrow), {x});
  CHECK(dx.dtype() == Dtype::float64);
  CHECK(largest_difference(dx, 2.0 * x) == 0.0);
}

// ---- The checker ---------------------------------------------------------------------------------------------------

TEST_CASE("gradcheck: a rule that is 0.1 % wrong is caught, and its place is named") {
  const Tensor x = tensor({0.5, -1.5, 2.0}, {3});
  const Function f = [](const auto& in) { return wrong_square(in[0], 1.001); };
  CHECK(gradcheck([](const auto& in) { return wrong_square(in[0], 1.0); }, {x}, {.order = 2}));
  for (bool every : {false, true}) {
    const auto result = gradcheck(f, {x}, {.every_element = every});
    CHECK_FALSE(result);
    CHECK(mentions(result, "gradcheck: order 1, input 0 of shape [3], index [2]: analytic "));
    CHECK(mentions(result, ", numeric "));
    CHECK(mentions(result, "; by step: 0.001 -> "));
    CHECK(mentions(result, ", 1e-07 -> "));
  }
}

TEST_CASE("gradcheck: names the input that is wrong, not the others") {
  const Function f = [](const auto& in) { return sum(in[0] * wrong_square(in[1], 0.999)); };
  const auto result = gradcheck(f, {tensor({1.0, 2.0}, {2}), tensor({0.1, 0.7}, {2})});
  CHECK(mentions(result, "order 1, input 1 of shape [2], index [1]"));
}

TEST_CASE("gradcheck: a rule right in its value and wrong in its own derivative is caught at order 2") {
  const Function f = [](const auto& in) {
    return record("half_blind", {in[0]}, (in[0] * in[0]).detach(),
                  [](const Ins& x, Out, Grad g) -> Grads { return {g * x[0].detach() * 2.0}; });
  };
  const Tensor x = tensor({0.5, -1.5}, {2});
  CHECK(gradcheck(f, {x}));
  CHECK(mentions(gradcheck(f, {x}, {.order = 2}), "order 2, input 0"));
}

TEST_CASE("gradcheck: order 3 sees what order 2 cannot") {
  const Function f = [](const auto& in) {
    return record("cube", {in[0]}, pow(in[0], 3.0).detach(), [](const Ins& x, Out, Grad g) -> Grads {
      return {g * record("slope", {x[0]}, (3.0 * x[0] * x[0]).detach(),
                         [](const Ins& z, Out, Grad h) -> Grads { return {h * z[0].detach() * 6.0}; })};
    });
  };
  const Tensor x = tensor({0.5, -1.5}, {2});
  CHECK(gradcheck(f, {x}, {.order = 2}));
  CHECK(mentions(gradcheck(f, {x}, {.order = 3}), "order 3, input 0"));
}

TEST_CASE("gradcheck: a softmax rule without its row sum, invisible to a cotangent of ones of its square, is caught") {
  const Function f = [](const auto& in) {
    return record("softmax_wrong", {in[0]}, softmax(in[0]).detach(),
                  [](const Ins&, Out y, Grad g) -> Grads { return {y * g - y}; });   // right for g = 1
  };
  CHECK_FALSE(gradcheck(f, {tensor({0.1, 0.2, 0.7}, {3})}));
}

TEST_CASE("gradcheck: a rule that is not linear in the cotangent is caught") {
  const Function f = [](const auto& in) {
    return record("bent", {in[0]}, (in[0] * 2.0).detach(),
                  [](const Ins&, Out, Grad g) -> Grads { return {g * 2.0 + 1e-3 * g * g}; });
  };
  CHECK(mentions(gradcheck(f, {tensor({1.0, 2.0}, {2})}), "not linear in the cotangent"));
}

TEST_CASE("gradcheck: a rule that differs from run to run is caught by its bits") {
  int calls = 0;
  const Function f = [&calls](const auto& in) {
    return record("drifting", {in[0]}, (in[0] * 2.0).detach(),
                  [&calls](const Ins&, Out, Grad g) -> Grads { return {g * (2.0 + 1e-15 * ++calls)}; });
  };
  CHECK(mentions(gradcheck(f, {tensor({1.0, 2.0}, {2})}), "two backward passes differ in their bits"));
}

TEST_CASE("gradcheck: a function that draws from a shared Rng is told so") {
  Rng rng(1);
  const Function f = [&rng](const auto& in) { return dropout(in[0], 0.5, rng); };
  CHECK(mentions(gradcheck(f, {ones({20}, Dtype::float64)}), "different values for the same inputs"));
}

TEST_CASE("gradcheck: a nan never passes") {
  const Function f = [](const auto& in) { return sqrt(in[0]); };
  CHECK_FALSE(gradcheck(f, {tensor({-1.0, 2.0}, {2})}));
  CHECK_FALSE(gradcheck(f, {tensor({1.0, -2.0}, {2})}, {.every_element = true}));
}

TEST_CASE("gradcheck: an exception from the function is reported, not passed on, and recording goes on") {
  const Function f = [](const auto& in) { return matmul(in[0], in[0]); };
  CHECK(mentions(gradcheck(f, {ones({2, 3}, Dtype::float64)}), "gradcheck: an exception: matmul: [2, 3] x [2, 3]"));
  CHECK(mentions(gradcheck([](const auto&) -> Tensor { throw 7; }, {ones({2}, Dtype::float64)}), "an exception"));
  CHECK(recording());
}

TEST_CASE("gradcheck: a function whose value is not float64 is reported") {
  const Function f = [](const auto& in) { return in[0].to(Dtype::float32); };
  CHECK(mentions(gradcheck(f, {ones({2}, Dtype::float64)}), "the function's value must be float64, not float32"));
}

TEST_CASE("gradcheck: a fast rule that disagrees with its reference is caught at order 2") {
  const Function f = [](const auto& in) {
    return fused("twofaced", {in[0]}, (in[0] * in[0]).detach(),
                 [](const Ins& x, Out, Grad g) -> Grads { return {g * x[0] * 2.0}; },
                 [](std::span<const Tensor> x) { return x[0] * x[0] * 1.001; });
  };
  CHECK(gradcheck(f, {tensor({0.5, 2.0}, {2})}));
  CHECK(mentions(gradcheck(f, {tensor({0.5, 2.0}, {2})}, {.order = 2}), "create_graph differs from that without"));
}

// ---- vjp, jvp, hvp, jacobian, hessian ------------------------------------------------------------------------------

namespace {

// f(x) = A x + x^2, J = A + diag(2 x)
const Tensor& A() {
  static const Tensor a = tensor({1.0, 2.0, 3.0, -1.0, 0.5, 4.0, 2.0, 2.0, -3.0}, {3, 3});
  return a;
}
Tensor bowl(const Tensor& x) { return matmul(A(), x) + x * x; }

}  // namespace

TEST_CASE("derivatives: J, v^T J, J v, H and H v are those of the formula") {
  const Tensor x = tensor({0.5, -1.0, 2.0}, {3}), v = tensor({1.0, -2.0, 0.25}, {3});
  const Tensor J = A() + eye(3, Dtype::float64) * (2.0 * x);
  const Function f = [](const auto& in) { return bowl(in[0]); };
  CHECK(largest_difference(jacobian(bowl, x), J) < 1e-14);
  CHECK(largest_difference(vjp(f, {x}, v)[0], matmul(v, J)) < 1e-14);
  CHECK(largest_difference(jvp(f, {x}, {v}), matmul(J, v)) < 1e-14);
  const auto cubic = [](const Tensor& z) { return sum(z * z * z) + matmul(z, matmul(A(), z)); };
  const Tensor H = eye(3, Dtype::float64) * (6.0 * x) + A() + transpose(A(), 0, 1);
  CHECK(largest_difference(hessian(cubic, x), H) < 1e-13);
  const Function g = [&](const auto& in) { return cubic(in[0]); };
  CHECK(largest_difference(hvp(g, {x}, {v})[0], matmul(H, v)) < 1e-13);
}

TEST_CASE("derivatives: shapes are output then input, also for scalars and for nothing") {
  const Tensor x = normal({2, 3}, 1);
  CHECK(jacobian([](const Tensor& z) { return sum(z, 0); }, x).shape() == Shape{3, 2, 3});
  CHECK(jacobian([](const Tensor& z) { return sum(z); }, x).shape() == Shape{2, 3});
  CHECK(hessian([](const Tensor& z) { return sum(z * z); }, x).shape() == Shape{2, 3, 2, 3});
  CHECK(jacobian([](const Tensor& z) { return slice(z, 0, 0, 0); }, x).shape() == Shape{0, 3, 2, 3});
  CHECK(hessian([](const Tensor& z) { return z * z * z; }, full({}, 2.0, Dtype::float64)).item() == 12.0);
  CHECK(jvp([](const auto& in) { return in[0]; }, {x.to(Dtype::float32)}, {x.to(Dtype::float32)}).dtype() ==
        Dtype::float32);
}

TEST_CASE("derivatives: what does not depend on an input has derivative 0 there") {
  const Tensor x = normal({2}, 1), y = normal({3}, 2);
  const Function first = [](const auto& in) { return in[0] * in[0]; };
  CHECK(largest_difference(vjp(first, {x, y}, ones({2}, Dtype::float64))[1], zeros({3}, Dtype::float64)) == 0.0);
  CHECK(largest_difference(jvp(first, {x, y}, {zeros_like(x), y}), zeros({2}, Dtype::float64)) == 0.0);
  CHECK(max(abs(jacobian([&](const Tensor&) { return y; }, x))).item() == 0.0);
  CHECK(max(abs(hessian([](const Tensor& z) { return sum(z); }, x))).item() == 0.0);
  const Function constant = [&](const auto&) { return sum(y); };
  CHECK(max(abs(hvp(constant, {x}, {x})[0])).item() == 0.0);
}

TEST_CASE("derivatives: a function of nothing has none") {
  const Tensor y = normal({}, 1);
  const Function f = [&](const auto&) { return y; };
  CHECK(vjp(f, {}, y).empty());
  CHECK(hvp(f, {}, {}).empty());
  CHECK(jvp(f, {}, {}).item() == 0.0);
}

TEST_CASE("derivatives: an input made from another counts as its own variable") {
  const Tensor x = tensor({3.0}, {1}), y = x * x;
  const auto found = vjp([](const auto& in) { return in[0] * in[1]; }, {x, y}, ones({1}, Dtype::float64));
  CHECK(found[0].item() == 9.0);   // not 27
  CHECK(found[1].item() == 3.0);
}

TEST_CASE("derivatives: derivatives have derivatives") {
  const Tensor x = tensor({0.7, -0.4}, {2}), v = tensor({1.0, 2.0}, {2});
  const Function f = [](const auto& in) { return sin(in[0]) * in[0]; };
  const auto slope = [](const Tensor& z) { return jacobian([](const Tensor& w) { return sin(w) * w; }, z); };
  const Tensor third = jacobian([&](const Tensor& z) { return jacobian(slope, z); }, x);
  for (std::int64_t i = 0; i < 2; ++i)   // (x sin x)''' = -3 sin x - x cos x
    CHECK(third.at({i, i, i, i}) == doctest::Approx(-3 * std::sin(x.at({i})) - x.at({i}) * std::cos(x.at({i}))));
  CHECK(gradcheck([&](const auto& in) { return jvp(f, {in[0]}, {in[1]}); }, {x, v}, {.order = 2}));
  CHECK(gradcheck([&](const auto& in) { return vjp(f, {in[0]}, in[1])[0]; }, {x, v}, {.order = 2}));
  const Function scalar = [&](const auto& in) { return sum(f(in)); };
  CHECK(gradcheck([&](const auto& in) { return hvp(scalar, {in[0]}, {in[1]})[0]; }, {x, v}));
}

TEST_CASE("derivatives: under NoRecord they answer the same and build no graph") {
  const Tensor x = normal({3}, 1), v = normal({3}, 2);
  const Tensor graph = jvp([](const auto& in) { return bowl(in[0]); }, {x}, {v});
  CHECK_NOTHROW(grad(sum(graph), {x}));
  const NoRecord pause;
  const Tensor plain = jvp([](const auto& in) { return bowl(in[0]); }, {x}, {v});
  CHECK(largest_difference(plain, graph) == 0.0);
  CHECK_THROWS_AS(grad(sum(plain), {x}), std::invalid_argument);
  CHECK_FALSE(recording());
  CHECK(gradcheck([](const auto& in) { return bowl(in[0]); }, {x}));
}

TEST_CASE("derivatives: a Hessian of attention is symmetric") {
  const Tensor x = normal({1, 3, 2}, 4);
  const auto f = [](const Tensor& z) {
    const Tensor y = attention(z, z, z, {.mask = causal_mask(3)}).output;
    return sum(y * y * y);
  };
  const Tensor H = reshape(hessian(f, x), {6, 6});
  CHECK(largest_difference(H, transpose(H, 0, 1)) < 1e-13);
  CHECK(max(abs(H)).item() > 0.1);
}

}  // TEST_SUITE
