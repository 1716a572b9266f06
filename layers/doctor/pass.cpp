#include "layers/doctor/pass.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "framework/diagnostics.hpp"
#include "framework/errors.hpp"
#include "layers/doctor/recipe.hpp"

namespace surgeon::detail {

namespace {

Tensor stacked(const std::vector<Head>& heads, const Tensor Head::*part, const Specimen& s) {
  std::vector<Tensor> parts;
  for (const Head& h : heads) parts.push_back(h.*part);
  return reshape(concat(parts, 0), {1, s.heads(), s.Tq(), s.Tk()});
}

double ratio(double a, double b) {
  return a == 0 ? 0 : std::isnan(a) || b == 0 ? std::numeric_limits<double>::infinity() : a / b;
}

Tensor number(double x) { return full({}, x, Dtype::float64); }

}   // namespace

Pass pass_of(const Specimen& s, const std::vector<Head>& heads) {
  Pass p{.s = s, .c = heads[0].factor, .group = heads[0].group};
  p.P = stacked(heads, &Head::P, s);
  p.K = shared(s.K, s.heads()), p.V = shared(s.V, s.heads());
  p.visible = visible_in(s);
  p.dP = times_transposed(s.dO, p.V);
  p.dS = p.P * (p.dP - p.delta());
  if (const double cap = heads[0].s.soft_cap; cap > 0) {
    const Tensor t = tanh(times_transposed(s.Q, p.K) * (p.c / cap));
    p.slope = 1.0 - t * t;
  }
  return p;
}

double Judge::excess(const Tensor& theirs, const Tensor& ours, const Tensor& exact, const Tensor& off) {
  if (theirs.empty()) return 0;
  if (ours.shape() != theirs.shape()) return std::numeric_limits<double>::infinity();
  const double size = norm(exact), larger = size > 0 ? std::max(1.0, norm(ours) / size) : 1.0;
  return ratio(norm(theirs - ours), off.item() * larger);
}

double Judge::excess(const Gradients& g) const {
  return std::max({excess(s.dQ, g.dQ, right.dQ, likely.dQ), excess(s.dK, g.dK, right.dK, likely.dK),
                   excess(s.dV, g.dV, right.dV, likely.dV)});
}

Judge judge_of(const Pass& p, const std::vector<Head>& heads) {
  Judge j{.s = p.s, .right = p.right()};
  double dQ = 0, dK = 0, dV = 0;
  for (const Head& h : heads) {
    const Reach r = reach_of(h, Errors::likely);
    dQ += sum(r.dQ * r.dQ).item(), dK += sum(r.dK * r.dK).item(), dV += sum(r.dV * r.dV).item();
  }
  j.likely = {number(std::sqrt(dQ)), number(std::sqrt(dK)), number(std::sqrt(dV))};
  j.told = j.excess(j.right);
  return j;
}

Finding finding(const std::string& name, const std::string& sentence, const std::string& cure,
                const std::string& evidence) {
  return {Finding::Kind::diagnosis, name, sentence, "", 0, 0, 0, 0.99, evidence, cure};
}

namespace {

struct Multiple {
  const char* name;
  double by = 1, give = 0;   // theirs = by times ours; give: how well that is known
  bool is_right() const { return std::abs(by - 1) <= 1e-12 + give; }
  bool is(double other) const {
    const double apart = std::abs(by - other);
    return apart <= 1e-12 + give * std::max(1.0, std::abs(other)) && apart < std::abs(by - 1) / 2;
  }
};

// Of each gradient given; nothing when one is no multiple.
std::optional<std::vector<Multiple>> multiples(const Judge& j) {
  std::vector<Multiple> all;
  for (const auto& [name, theirs, ours, off] : {std::tuple{"dQ", &j.s.dQ, &j.right.dQ, &j.likely.dQ},
                                                {"dK", &j.s.dK, &j.right.dK, &j.likely.dK},
                                                {"dV", &j.s.dV, &j.right.dV, &j.likely.dV}}) {
    const double square = sum(*ours * *ours).item();
    if (theirs->empty() || square == 0) continue;
    const double by = sum(*theirs * *ours).item() / square;   // exactly 0 when theirs is
    if (j.excess(*theirs, *ours * by, *ours, *off) > 1) return {};
    all.push_back({name, by, off->item() / std::sqrt(square)});
  }
  return all;
}

std::string listed(const std::vector<Multiple>& all) {
  std::string text;
  for (const Multiple& m : all) text += (text.empty() ? "" : " and ") + std::string(m.name);
  return text;
}

}   // namespace

std::optional<Finding> multiple(const Pass& p, const Judge& j) {
  const auto found = multiples(j);
  if (!found) return {};
  std::vector<Multiple> wrong;
  std::string evidence;
  for (const Multiple& m : *found) {
    if (!m.is_right()) wrong.push_back(m);
    evidence += sentence(evidence.empty() ? "" : ", ", m.name, " is ", m.by, " times what it must be");
  }
  if (wrong.empty()) return {};
  const auto each = [&](double by) {
    return std::all_of(wrong.begin(), wrong.end(), [by](const Multiple& m) { return m.is(by); });
  };
  const std::string what = listed(wrong), are = wrong.size() > 1 ? " are " : " is ";
  const bool scores = std::all_of(wrong.begin(), wrong.end(), [](const Multiple& m) { return m.name[1] != 'V'; });
  const bool keys = std::all_of(wrong.begin(), wrong.end(), [](const Multiple& m) { return m.name[1] != 'Q'; });
  const std::string chain = "dQ = c dS K and dK = c dS^T Q, with the scale c of the scores, once";
  if (std::all_of(wrong.begin(), wrong.end(), [](const Multiple& m) { return m.by == 0; })) {
    const std::string letter(1, wrong[0].name[1]);
    return finding(std::string(wrong[0].name) + " is 0", "no gradient reaches " + letter + ": it is not connected",
                   "remove detach(), no_grad or a copy through numbers between " + letter + " and the loss", evidence);
  }
  if (scores && each(1 / p.c))
    return finding(what + " without the scale", what + " lack" + (wrong.size() > 1 ? "" : "s") + " the scale", chain,
                   evidence);
  if (scores && each(p.c))
    return finding(what + " scaled twice", what + are + "multiplied by the scale twice", chain, evidence);
  if (keys && p.group > 1 && each(1 / double(p.group)))
    return finding("mean over the group",
                   what + are + "the mean over the query heads that share a key head, not their sum",
                   "sum the gradients of all query heads that read a key head", evidence);
  if (wrong.size() == found->size() && wrong.size() > 1 && each(wrong[0].by))
    return finding("gradients of another scale", "all gradients are those of another dO, times one number",
                   "a loss scale, or a mean over the batch, is in dO or in the gradients but not in both", evidence);
  return finding("gradient times a number", what + are + "a multiple of what the chain rule gives", chain, evidence);
}

}   // namespace surgeon::detail
