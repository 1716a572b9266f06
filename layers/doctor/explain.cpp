#include "layers/doctor/explain.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "framework/diagnostics.hpp"
#include "framework/errors.hpp"

namespace surgeon::detail {

namespace {

// The square of the norm of what rounding likely does, over all heads.
struct Likely {
  double P = 0, O = 0, dQ = 0, dK = 0, dV = 0;
};

double squares(const Tensor& x) { return x.empty() ? 0 : sum(x * x).item(); }

Likely likely_of(const Specimen& s, const Formula& f, const Tensor& weights, const Format& format) {
  Likely all;
  for (std::int64_t kv = 0; kv < s.kv_heads(); ++kv) {
    const Reach r = reach_of(head_of(s, kv, f, weights, format), Errors::likely);
    all.P += squares(r.P), all.O += squares(r.O);
    all.dQ += squares(r.dQ), all.dK += squares(r.dK), all.dV += squares(r.dV);
  }
  return all;
}

void compare(Misfit& m, const Tensor& theirs, const Tensor& ours, double likely) {
  if (theirs.empty()) return;
  const double apart = norm(theirs - ours), whole = norm(theirs);
  const auto ratio = [](double a, double b) {
    return a == 0 ? 0 : std::isnan(a) || b == 0 ? std::numeric_limits<double>::infinity() : a / b;
  };
  m.relative = std::max(m.relative, ratio(apart, whole));
  m.excess = std::max(m.excess, ratio(apart, std::sqrt(likely)));
}

Misfit misfit(const Specimen& s, const Formula& formula, const Format& format, Tensor& weights) {
  const Recording on;
  const Attended a = formula.attend(s.Q, s.K, s.V);
  weights = a.weights.detach();
  Misfit m;
  const bool forward = s.weights.defined() || s.output.defined();
  if (!forward && (s.dO.empty() || (s.dQ.empty() && s.dK.empty() && s.dV.empty()))) return m;
  const Likely likely = likely_of(s, formula, weights, format);
  if (forward) {
    compare(m, s.weights, weights, likely.P);
    compare(m, s.output, a.output, likely.O);
    return m;
  }
  const std::vector<Tensor> ours =
      grad(a.output, std::vector<Tensor>{s.Q, s.K, s.V}, {.cotangent = s.dO, .allow_unused = true});
  compare(m, s.dQ, ours[0], likely.dQ);
  compare(m, s.dK, ours[1], likely.dK);
  compare(m, s.dV, ours[2], likely.dV);
  return m;
}

}   // namespace

Head head_of(const Specimen& one, std::int64_t kv_head, const Formula& formula, const Tensor& weights,
             const Format& format) {
  Head head{.s = one_group(one, 0, kv_head), .group = one.heads() / one.kv_heads(), .format = format};
  head.first = kv_head * head.group;
  head.factor = formula.factor, head.s.soft_cap = formula.soft_cap;
  head.P = head.s.weights.defined()
               ? head.s.weights
               : reshape(slice(weights[0], 0, head.first, head.first + head.group), {head.group * one.Tq(), one.Tk()});
  return head;
}

// What was told may be off by all that rounding makes likely. A mistake has to explain most of what is wrong as well,
// or coarse numbers would be explained by anything.
bool Explanation::fits(std::size_t i) const {
  return misfits[i].excess <= 1 && (i == 0 || misfits[i].excess <= misfits[0].excess / 4);
}

Explanation explain(const Specimen& s, const Format& format) {
  Explanation e{.formulas = formulas_for(s)};
  e.misfits.push_back(misfit(s, e.formulas[0], format, e.weights));
  e.forward = s.weights.defined() || s.output.defined();
  if (e.explains()) return e;
  Tensor weights, best;
  for (std::size_t i = 1; i < e.formulas.size(); ++i) {
    if (e.formulas[i].last_resort && e.best != 0 && e.explains()) break;
    e.misfits.push_back(misfit(s, e.formulas[i], format, weights));
    if (e.misfits[i].excess < e.misfits[e.best].excess) e.best = i, best = weights;
  }
  if (e.best != 0 && e.explains()) e.weights = best;
  return e;
}

std::optional<Finding> mistake_of(const Explanation& e, bool dropout) {
  if (e.best == 0 && e.explains()) return {};
  Finding found{.kind = Finding::Kind::diagnosis};
  const Misfit &told = e.misfits[0], &best = e.misfits[e.best];
  const std::string wrong = sentence("attention as it was told is off by ", 100 * told.relative,
                                     " % of the numbers' size, ", told.excess, " times what rounding makes likely");
  if (!e.explains()) {
    if (dropout || !e.forward) return {};   // dropout is a diagnosis of its own; gradients are for the laws
    found.name = "unexplained";
    found.sentence = "the numbers are not those of attention as it was told, nor of any mistake known here";
    found.certainty = 0.5;
    found.evidence = sentence(wrong, "; the nearest mistake (", e.formulas[e.best].name, ") by ", 100 * best.relative,
                              " %, ", best.excess, " times");
    found.cure = "say how it was computed (--scale, --causal, --layout, --window, --weighting), or look at the laws";
    return found;
  }
  const Formula& f = e.formulas[e.best];
  std::set<std::string> names;
  for (std::size_t i = 1; i < e.misfits.size(); ++i)
    if (e.fits(i)) names.insert(e.formulas[i].name);
  names.erase(f.name);
  found.name = f.name, found.sentence = f.sentence, found.cure = f.cure;
  found.certainty = 0.99 / double(1 + names.size());
  found.evidence = sentence(wrong, "; with this mistake by ", 100 * best.relative, " %, within rounding");
  for (const std::string& name : names)
    found.evidence += (name == *names.begin() ? "; as well explained by: " : ", ") + name;
  return found;
}

namespace {

// Of each key, whether most rows have a weight there whose logarithm is not what the scores say, within rounding and up
// to the row's own constant: log-sum-exp, of which the median over the keys is a good guess.
std::vector<bool> odd_in(const Head& h, const Tensor& weights) {
  const std::int64_t n = h.P.shape(0), Tk = h.P.shape(1);
  const Tensor step = reach_of(h, Errors::worst).P / maximum(h.P, full({1}, 1e-300, Dtype::float64));
  const auto given = h.P.values<double>(), right = weights.values<double>(), off = step.values<double>();
  std::vector<std::int64_t> odd(std::size_t(Tk), 0), seen(std::size_t(Tk), 0);
  for (std::int64_t i = 0; i < n; ++i) {
    std::vector<double> apart(std::size_t(Tk), std::nan("")), known;
    for (std::size_t j = 0; j < std::size_t(Tk); ++j) {
      const std::size_t at = std::size_t(i * Tk) + j;
      if (given[at] > 1e-9 && right[at] > 1e-9) known.push_back(apart[j] = std::log(given[at] / right[at]));
    }
    if (known.size() < 3) continue;
    const double constant = median(known);
    for (std::size_t j = 0; j < std::size_t(Tk); ++j)
      if (!std::isnan(apart[j])) ++seen[j], odd[j] += std::abs(apart[j] - constant) > 4 * off[std::size_t(i * Tk) + j];
  }
  std::vector<bool> which;
  for (std::size_t j = 0; j < std::size_t(Tk); ++j) which.push_back(2 * odd[j] > seen[j]);
  return which;
}

}   // namespace

std::optional<Finding> odd_keys(const Specimen& s, const std::vector<Head>& heads, const Explanation& e) {
  if (e.explains() || s.weights.empty()) return {};
  std::vector<bool> odd(std::size_t(s.Tk()), false);
  for (const Head& h : heads) {
    const Tensor weights = reshape(slice(e.weights[0], 0, h.first, h.first + h.group), h.P.shape());
    const std::vector<bool> here = odd_in(h, weights);
    for (std::size_t j = 0; j < odd.size(); ++j) odd[j] = odd[j] || here[j];
  }
  std::string names;
  std::int64_t count = 0;
  for (std::size_t j = 0; j < odd.size(); ++j)
    if (odd[j] && ++count <= 8) names += (names.empty() ? "" : ", ") + std::to_string(j);
  if (count == 0 || 2 * count >= s.Tk()) return {};
  return Finding{
      Finding::Kind::diagnosis,
      "other keys",
      "some keys are not those that the weights were computed with: key " + names + (count > 8 ? ", ..." : ""),
      "",
      0,
      0,
      0,
      0.9,
      "at all other keys the weights are those of Q and K, but for each row's sum",
      "look for a stale or misplaced cache of keys, or keys that were changed after use"};
}

}   // namespace surgeon::detail
