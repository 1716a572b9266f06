#include "layers/anatomy.hpp"

#include <cmath>
#include <limits>

#include "framework/diagnostics.hpp"
#include "framework/errors.hpp"

namespace surgeon {

namespace {

// One way back, in float64: everything that stands in the ledger.
struct Chain {
  double scale = 1;
  Tensor visible;                       // [Tq, Tk], 1 and 0
  Tensor P, cap_slope, contrast, dS, dA;   // dA: by the scores before the cap
  Tensor dO, dQ, dK, dV;
};

Tensor filled(const Tensor& x, const Tensor& visible) { return masked_fill(x, visible == 0.0, 0.0); }

Chain walk_back(const Specimen& s) {
  const std::int64_t Tq = s.Q.shape(0), Tk = s.K.shape(0);
  Chain c;
  c.scale = s.scale.factor(s.Q.shape(1), Tk);
  const Tensor mask = visible_in(s);
  c.visible = mask.empty() ? full({Tq, Tk}, 1.0, Dtype::float64) : broadcast_to(mask.to(Dtype::float64), {Tq, Tk});
  Tensor scores = matmul(s.Q, s.K, {.transpose_b = true}) * c.scale;
  c.cap_slope = full({Tq, Tk}, 1.0, Dtype::float64);
  if (s.soft_cap > 0) {
    const Tensor t = tanh(scores / s.soft_cap);
    c.cap_slope = 1.0 - t * t;
    scores = t * s.soft_cap;
  }
  if (s.bias.defined()) scores = scores + s.bias;
  c.P = filled(softmax(masked_fill(scores, c.visible == 0.0, -std::numeric_limits<double>::infinity())), c.visible);
  c.P = where(isnan(c.P), zeros({}, Dtype::float64), c.P);   // a row that sees nothing
  c.dO = s.dO;
  const Tensor dP = filled(matmul(s.dO, s.V, {.transpose_b = true}), c.visible);
  const Tensor seen = maximum(sum(c.visible, Over{{1}, true}), full({}, 1.0, Dtype::float64));
  c.contrast = filled(dP - sum(dP, Over{{1}, true}) / seen, c.visible);
  c.dS = c.P * (c.contrast - sum(c.P * c.contrast, Over{{1}, true}));   // J of dP and of C dP are the same
  c.dA = c.dS * c.cap_slope;
  c.dQ = matmul(c.dA, s.K) * c.scale;
  c.dK = matmul(c.dA, s.Q, {.transpose_a = true}) * c.scale;
  c.dV = matmul(c.P, s.dO, {.transpose_a = true});
  return c;
}

// ---- Ledgers -------------------------------------------------------------------------------------------------------
// Norms along the way: those of the rows, and of all.
struct Stage {
  std::vector<double> rows;
  double whole;
};
Stage stage(const Tensor& x) { return {row_norms(x), norm(x)}; }
Stage times(Stage s, double factor) {
  for (double& x : s.rows) x *= factor;
  return {std::move(s.rows), s.whole * factor};
}
Stage same_for_all(double whole, std::size_t rows) { return {std::vector<double>(rows, whole), whole}; }

double decades(double after, double before) { return before == 0 ? 0 : std::log10(after / before); }

class Writer {
 public:
  explicit Writer(Stage upstream) : last_(std::move(upstream)) {
    Factor first{"upstream", {}, std::log10(last_.whole)};
    for (const double x : last_.rows) first.rows.push_back(std::log10(x));
    ledger_.factors.push_back(std::move(first));
  }
  void step(const char* name, Stage next) {
    Factor f{name, {}, decades(next.whole, last_.whole)};
    for (std::size_t i = 0; i < next.rows.size(); ++i) f.rows.push_back(decades(next.rows[i], last_.rows[i]));
    ledger_.factors.push_back(std::move(f));
    last_ = std::move(next);
  }
  // From a gradient to that of the weights, X^T of it, when there is an X.
  void input(const Tensor& X, const Tensor& gradient) {
    if (X.empty()) return;
    const double factor = last_.whole == 0 ? 1 : norm(matmul(X, gradient, {.transpose_a = true})) / last_.whole;
    step("input", times(last_, factor));
  }
  Ledger finish() {
    ledger_.whole = std::log10(last_.whole);
    for (const double x : last_.rows) ledger_.total.push_back(std::log10(x));
    return std::move(ledger_);
  }

 private:
  Ledger ledger_;
  Stage last_;
};

Tensor columns(const Tensor& x) { return transpose(x, 0, 1); }

Ledger of_queries(const Specimen& s, const Chain& c) {
  Writer w(stage(c.dO));
  w.step("value contrast", stage(c.contrast));
  w.step("Jacobian", stage(c.dS));
  if (s.soft_cap > 0) w.step("soft cap", stage(c.dA));
  w.step("scale", times(stage(c.dA), std::abs(c.scale)));
  w.step("keys", stage(c.dQ));
  w.input(s.X, c.dQ);
  return w.finish();
}

Ledger of_keys(const Specimen& s, const Chain& c) {
  const auto keys = std::size_t(s.K.shape(0));
  Writer w(same_for_all(norm(c.dO), keys));
  w.step("value contrast", same_for_all(norm(c.contrast), keys));
  w.step("Jacobian", stage(columns(c.dS)));
  if (s.soft_cap > 0) w.step("soft cap", stage(columns(c.dA)));
  w.step("scale", times(stage(columns(c.dA)), std::abs(c.scale)));
  w.step("queries", stage(c.dK));
  w.input(s.X, c.dK);
  return w.finish();
}

Ledger of_values(const Specimen& s, const Chain& c) {
  Writer w(same_for_all(norm(c.dO), std::size_t(s.K.shape(0))));
  w.step("weights", times(stage(columns(c.P)), norm(c.dO)));
  w.step("agreement", stage(c.dV));
  w.input(s.X, c.dV);
  return w.finish();
}

// ---- Deaths --------------------------------------------------------------------------------------------------------
Tensor scores_gradient_in_float32(const Specimen& s) {
  const auto narrow = [](const Tensor& x) { return reshape(x.to(Dtype::float32), {1, x.shape(0), x.shape(1)}); };
  AttentionOptions options = s.options();
  options.return_weights = true;
  if (s.bias.defined()) options.bias = s.bias.to(Dtype::float32);
  const detail::Recording recording;
  const AttentionResult r = attention(narrow(s.Q), narrow(s.K), narrow(s.V), options);
  return grad(r.output, {r.scores}, {.cotangent = narrow(s.dO), .allow_unused = true})[0][0];
}

std::vector<Death> deaths_of(const Specimen& s, const Chain& c) {
  const Tensor seen = sum(c.visible, 1);
  const std::vector<double> jacobian = softmax_jacobian_norm(c.P), exact = row_norms(c.dS);
  const std::vector<double> off = row_norms(scores_gradient_in_float32(s).to(Dtype::float64) - c.dS);
  std::vector<Death> deaths;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    Death death = Death::alive;
    if (seen.at({std::int64_t(i)}) < 2) death = Death::no_choice;
    else if (exact[i] > 0 && exact[i] < 0x1p-126) death = Death::underflow;
    else if (off[i] > 0.5 * exact[i]) death = Death::cancellation;
    else if (jacobian[i] < 1e-3) death = Death::saturation;
    deaths.push_back(death);
  }
  return deaths;
}

}  // namespace

const char* name_of(Death death) {
  switch (death) {
    case Death::alive: return "alive";
    case Death::no_choice: return "no choice";
    case Death::saturation: return "saturation";
    case Death::cancellation: return "cancellation";
    default: return "underflow";
  }
}

Anatomy anatomy(const Specimen& head) {
  require(head.Q.rank() == 2 && head.dO.defined(), "anatomy: needs one head (one_head) with its upstream gradient dO");
  const NoRecord pause;
  const Specimen s = in_float64(head);
  const Chain c = walk_back(s);
  return {of_queries(s, c), of_keys(s, c), of_values(s, c), deaths_of(s, c)};
}

}  // namespace surgeon
