// An examination: which formula explains the numbers, which laws they break, and what else is wrong.
#include "layers/doctor.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "framework/diagnostics.hpp"
#include "framework/errors.hpp"
#include "layers/doctor/formulas.hpp"
#include "layers/doctor/laws.hpp"
#include "layers/doctor/signs.hpp"

namespace surgeon {

namespace {

using detail::Attended;
using detail::Formula;

constexpr double coarse = 0.05;   // of whole tensors: a mistake that fits no better than this explains nothing
constexpr double infinite = std::numeric_limits<double>::infinity();

constexpr Tensor Specimen::*measured_parts[] = {&Specimen::Q,       &Specimen::K,  &Specimen::V,  &Specimen::output,
                                                &Specimen::weights, &Specimen::dO, &Specimen::dP, &Specimen::dS,
                                                &Specimen::dQ,      &Specimen::dK, &Specimen::dV};

double unit_of(const Specimen& s) {
  double u = std::ldexp(1.0, s.Q.dtype() == Dtype::float64 ? -53 : -24);
  for (auto part : measured_parts)
    if ((s.*part).defined()) u = std::max(u, detail::unit_of(s.*part));
  return u;
}

// |theirs - ours| / |theirs|, of whole tensors; infinite when it is nan.
double off(const Tensor& theirs, const Tensor& ours) {
  const double apart = norm(theirs - ours), whole = norm(theirs);
  constexpr double underflow = 1e-30;   // gradients this small are 0 or denormal in float32
  const double ratio = apart <= underflow ? 0 : apart / whole;
  return std::isnan(ratio) ? infinite : ratio;
}

// ---- Which formula explains the numbers ----------------------------------------------------------------------------
// How far a formula is from the weights and the output; from the gradients where neither is there. nan: nothing to
// compare with.
double misfit(const Specimen& s, const Formula& formula) {
  const detail::Recording on;
  const Attended a = formula.attend(s.Q, s.K, s.V);
  double worst = -1;
  if (s.weights.defined()) worst = std::max(worst, off(s.weights, a.weights));
  if (s.output.defined()) worst = std::max(worst, off(s.output, a.output));
  if (worst >= 0) return worst;
  if (s.dO.empty()) return std::nan("");
  const std::vector<Tensor> ours =
      grad(a.output, std::vector<Tensor>{s.Q, s.K, s.V}, {.cotangent = s.dO, .allow_unused = true});
  const Tensor* theirs[] = {&s.dQ, &s.dK, &s.dV};
  for (std::size_t i = 0; i < 3; ++i)
    if (theirs[i]->defined()) worst = std::max(worst, off(*theirs[i], ours[i]));
  return worst < 0 ? std::nan("") : worst;
}

struct Explanation {
  std::vector<Formula> formulas;
  std::vector<double> misfits;
  std::size_t best = 0;   // the one told when it is good enough
  double tolerance = 0;
  bool gradients_alone = false;   // neither weights nor output: whole gradients of saturated rows are mostly rounding
  // What was told may be off by all that rounding allows; a mistake must fit better than that when the numbers are coarse.
  bool fits(std::size_t i) const { return misfits[i] <= (i == 0 ? tolerance : std::min(tolerance, coarse)); }
  bool explains() const { return fits(best); }
  const Formula& taken() const { return formulas[explains() ? best : 0]; }
  bool nothing_to_compare() const { return std::isnan(misfits[0]); }
};

// What rounding can do to whole tensors: see the header. Gradients of saturated rows are sums that cancel.
double tolerance_of(const Specimen& s, double factor, double u, bool gradients_alone) {
  const Tensor K =
      matmul(abs(s.Q), s.heads() == s.kv_heads() ? abs(s.K) : max(abs(s.K), Over{{1}, true}), {.transpose_b = true});
  const double spread = 1 + std::abs(factor) * max(K).item(), longest = double(std::max(s.Tk(), s.Tq()));
  return (8 + 4 * std::sqrt(longest)) * u * spread * (gradients_alone ? 8 : 1);
}

Explanation explain(const Specimen& s, double u) {
  Explanation e{.formulas = detail::formulas_for(s), .misfits = {}};
  e.gradients_alone = s.weights.empty() && s.output.empty();
  e.tolerance = tolerance_of(s, e.formulas[0].factor, u, e.gradients_alone);
  e.misfits.push_back(misfit(s, e.formulas[0]));
  if (e.nothing_to_compare() || e.explains()) return e;
  if (e.gradients_alone && e.tolerance >= coarse) return e;   // rounding is as large as what a mistake would change
  for (std::size_t i = 1; i < e.formulas.size(); ++i) {
    e.misfits.push_back(misfit(s, e.formulas[i]));
    if (e.misfits[i] < e.misfits[e.best]) e.best = i;
  }
  return e;
}

// A mistake that explains the numbers within rounding, or several that do; or the news that none does.
std::optional<Finding> mistake(const Explanation& e, bool dropout) {
  if (e.best == 0 && (e.nothing_to_compare() || e.explains())) return {};
  Finding found{.kind = Finding::Kind::diagnosis};
  const std::string told = sentence("attention as it was told is off by ", e.misfits[0], " of the numbers' size");
  if (!e.explains()) {
    if (dropout || e.gradients_alone) return {};   // dropout is a diagnosis of its own; gradients are for the laws
    found.name = "unexplained";
    found.sentence = "the numbers are not those of attention as it was told, nor of any mistake known here";
    found.certainty = 0.5;
    found.evidence = sentence(told, "; the nearest mistake (", e.formulas[e.best].name, ") by ", e.misfits[e.best],
                              "; rounding allows ", e.tolerance);
    found.cure =
        "say with the options how it was computed (--scale, --causal, --layout, --window), or look at the laws";
    return found;
  }
  std::string others;
  int equal = 0;
  for (std::size_t i = 1; i < e.misfits.size(); ++i)
    if (e.fits(i) && ++equal && i != e.best)
      others += (others.empty() ? "" : ", ") + e.formulas[i].name;
  const Formula& f = e.formulas[e.best];
  found.name = f.name;
  found.sentence = f.sentence;
  found.cure = f.cure;
  found.certainty = 0.99 / equal;
  found.evidence = sentence(told, ", with this mistake by ", e.misfits[e.best], "; rounding allows ", e.tolerance);
  if (!others.empty()) found.evidence += "; as well explained by: " + others;
  return found;
}

// ---- Laws ----------------------------------------------------------------------------------------------------------
struct Tally {
  bool checked = false;
  int broken = 0, heads = 0;
  Finding worst;
  double excess = 0;
};

bool finite(const Tensor& x) { return x.empty() || std::isfinite(sum(abs(x)).item()); }

void note(Tally& tally, const detail::Law& law, const detail::Measured& m, const std::string& where) {
  tally.checked = true;
  ++tally.heads;
  if (m.excess() <= 1) return;
  ++tally.broken;
  if (m.excess() <= tally.excess) return;
  tally.excess = m.excess();
  tally.worst = {Finding::Kind::broken_law,
                 law.name,
                 law.sentence,
                 where + (m.place.empty() ? "" : ", " + m.place),
                 m.found,
                 m.expected,
                 m.allowed,
                 1.0,
                 {},
                 law.cure};
}

// Finite inputs must give finite numbers: a law before all others, whose sums would be nan.
std::optional<Finding> not_finite(const Specimen& s, const std::string& where) {
  for (const Tensor* x : {&s.Q, &s.K, &s.V, &s.dO})
    if (!finite(*x)) return {};
  for (const auto& [name, x] : {std::pair{"weights", &s.weights},
                                {"output", &s.output},
                                {"dQ", &s.dQ},
                                {"dK", &s.dK},
                                {"dV", &s.dV},
                                {"dS", &s.dS},
                                {"dP", &s.dP}})
    if (!finite(*x))
      return Finding{Finding::Kind::broken_law,
                     "finite",
                     "finite queries, keys and values give finite numbers",
                     where + ", " + name,
                     std::nan(""),
                     0,
                     0,
                     1.0,
                     std::string(name) + " has nan or infinity, Q, K and V have not",
                     "give rows that the mask hides entirely weights of 0; subtract the largest score before exp"};
  return {};
}

std::string place(const Specimen& s, std::int64_t sequence) {
  return (s.name.empty() ? "" : "layer " + s.name + ", ") + "sequence " + std::to_string(sequence);
}

detail::Head head_of(const Specimen& one, std::int64_t h, const Explanation& e, const Tensor& weights, double u) {
  detail::Head head{.s = one_head(one, 0, h)};
  const Formula& f = e.taken();
  head.visible = visible_in(head.s);
  head.factor = f.factor;
  head.u = u;
  head.P = head.s.weights.defined() ? head.s.weights : weights[0][h];
  const bool forward = head.s.weights.defined() || head.s.output.defined();
  head.explained = f.lawful && ((forward && e.explains()) || !forward);
  return head;
}

void check_laws(std::map<std::string, Tally>& tallies, const detail::Head& head, const std::string& where) {
  const double underflow = detail::underflow_of(head);
  for (const detail::Law& law : detail::laws())
    if (auto m = law.measure(head)) {
      m->allowed += underflow;
      note(tallies[law.name], law, *m, where);
    }
}

void add_new(std::vector<Finding>& all, const Finding& finding) {
  const auto same = [&](const Finding& f) { return f.name == finding.name && f.kind == finding.kind; };
  if (std::none_of(all.begin(), all.end(), same)) all.push_back(finding);
}

void examine_sequence(const Specimen& one, const std::string& where, double u, std::map<std::string, Tally>& tallies,
                      std::vector<Finding>& found) {
  if (const auto bad = not_finite(one, where)) return add_new(found, *bad);
  const Explanation e = explain(one, u);
  const Formula& f = e.taken();
  const Tensor weights = f.attend(one.Q, one.K, one.V).weights.detach();
  bool dropout = false;
  for (Finding& sign : detail::signs_of(one, weights, u)) {
    dropout = dropout || sign.name == "dropout on";
    sign.where = where + (sign.where.empty() ? "" : ", " + sign.where);
    add_new(found, sign);
  }
  if (auto wrong = mistake(e, dropout)) {
    wrong->where = where;
    add_new(found, *wrong);
  }
  for (std::int64_t h = 0; h < one.heads(); ++h)
    check_laws(tallies, head_of(one, h, e, weights, u), where + ", head " + std::to_string(h));
}

}  // namespace

Examination examine(const Specimen& specimen) {
  check(specimen);
  const NoRecord pause;
  const Specimen wide = in_float64(specimen);
  Examination result{.unit_roundoff = unit_of(specimen)};
  std::map<std::string, Tally> tallies;
  std::vector<Finding> others;
  for (std::int64_t b = 0; b < wide.batch(); ++b)
    examine_sequence(one_sequence(wide, b), place(specimen, b), result.unit_roundoff, tallies, others);
  for (const detail::Law& law : detail::laws()) {
    Tally& tally = tallies[law.name];
    if (!tally.checked) result.unchecked.push_back(law.name + ": needs " + law.needs);
    else if (tally.broken == 0) result.held.push_back(law.name);
    if (tally.broken == 0) continue;
    tally.worst.evidence = sentence("broken in ", tally.broken, " of ", tally.heads, " heads; here ", tally.excess,
                                    " times what rounding allows");
    result.findings.push_back(tally.worst);
  }
  std::stable_sort(others.begin(), others.end(), [](const Finding& a, const Finding& b) {
    return std::pair{a.kind, -a.certainty} < std::pair{b.kind, -b.certainty};
  });
  const auto first_diagnosis =
      std::find_if(others.begin(), others.end(), [](const Finding& f) { return f.kind == Finding::Kind::diagnosis; });
  result.findings.insert(result.findings.begin(), others.begin(), first_diagnosis);
  result.findings.insert(result.findings.end(), first_diagnosis, others.end());
  return result;
}

std::vector<std::pair<std::string, std::string>> laws_of_attention() {
  std::vector<std::pair<std::string, std::string>> all{
      {"finite", "finite queries, keys and values give finite numbers"}};
  for (const detail::Law& law : detail::laws()) all.emplace_back(law.name, law.sentence);
  return all;
}

}  // namespace surgeon
