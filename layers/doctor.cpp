// An examination: which formula explains the numbers, which laws they break, and what else is wrong.
#include "layers/doctor.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "framework/errors.hpp"
#include "layers/doctor/backward.hpp"
#include "layers/doctor/explain.hpp"
#include "layers/doctor/laws.hpp"
#include "layers/doctor/signs.hpp"
#include "layers/masks.hpp"

namespace surgeon {

namespace {

using detail::Format;
using detail::Head;

struct Tally {
  bool checked = false;
  int broken = 0, heads = 0;
  Finding worst;
  double excess = 0;
};

struct Patient {
  Format format;
  std::map<std::string, Tally> tallies = {};
  std::vector<Finding> others = {};
};

std::string head_name(std::int64_t h) { return "head " + std::to_string(h); }

// "head 3, query 5, component 2"; a key of grouped heads is named with its own head.
std::string place_in(const Head& head, const detail::Measured& m) {
  const std::int64_t Tq = head.s.Q.shape(0) / head.group;
  std::string text = head_name(head.first + (m.query < 0 ? 0 : m.query / Tq));
  if (m.query < 0 && head.group > 1)
    text = "key " + head_name(head.first / head.group) + " (heads " + std::to_string(head.first) + " to " +
           std::to_string(head.first + head.group - 1) + ")";
  if (m.query >= 0) text += ", query " + std::to_string(m.query % Tq);
  return text + (m.place.empty() ? "" : ", " + m.place);
}

void note(Tally& tally, const detail::Law& law, const detail::Measured& m, const std::string& where) {
  tally.checked = true;
  ++tally.heads;
  if (m.excess() <= 1) return;
  ++tally.broken;
  if (m.excess() <= tally.excess) return;
  tally.excess = m.excess();
  tally.worst = {
      Finding::Kind::broken_law, law.name, law.sentence, where, m.found, m.expected, m.allowed, 1.0, {}, law.cure};
}

// ---- nan and infinity ----------------------------------------------------------------------------------------------
bool finite(const Tensor& x) { return x.empty() || all(isfinite(x)).item() != 0; }

// Before all others, whose sums would be nan.
std::optional<Finding> not_finite(const Specimen& s, const std::string& where) {
  for (const auto& [name, x] : {std::pair{"Q", &s.Q}, {"K", &s.K}, {"V", &s.V}, {"bias", &s.bias}, {"dO", &s.dO}})
    if (!finite(*x))
      return Finding{Finding::Kind::diagnosis,
                     "input not finite",
                     std::string(name) + " has nan or infinity, so that nothing can be checked",
                     where,
                     0,
                     0,
                     0,
                     1.0,
                     "what went in was broken already",
                     "look for what made it: the layer before, or a loss scale too large for float16"};
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
                     "give rows that the mask hides entirely weights of 0; subtract the largest score before exp; in "
                     "float16, whose largest number is 65504, lower the loss scale"};
  return {};
}

// A bias of -inf is a mask. Keys and values that no query sees count for nothing, whatever they hold.
Specimen tidied(Specimen s) {
  if (s.bias.defined()) {
    const Tensor hides = (s.bias < 0.0) && isinf(s.bias);
    if (any(hides).item() != 0) {
      s.mask = s.mask.empty() ? !hides : both(s.mask, !hides);
      s.bias = masked_fill(s.bias, hides, 0.0);
    }
  }
  if (finite(s.K) && finite(s.V)) return s;
  const Tensor visible = visible_in(s);
  if (visible.empty()) return s;
  const Shape by_group{s.batch(), s.kv_heads(), s.heads() / s.kv_heads() * s.Tq(), s.Tk()};
  const Tensor map = reshape(broadcast_to(visible, {s.batch(), s.heads(), s.Tq(), s.Tk()}), by_group);
  const Tensor unseen = reshape(!any(map, Over{{2}}), {s.batch(), s.kv_heads(), s.Tk(), 1});
  for (Tensor* x : {&s.K, &s.V}) *x = masked_fill(*x, unseen, 0.0);
  return s;
}

// ---- One sequence --------------------------------------------------------------------------------------------------
std::string place(const Specimen& s, std::int64_t sequence) {
  return (s.name.empty() ? "" : "layer " + s.name + ", ") + "sequence " + std::to_string(sequence);
}

void check_laws(Patient& p, const Head& head, const std::string& where) {
  const detail::Reach reach = reach_of(head, detail::Errors::worst);
  for (const detail::Law& law : detail::laws())
    if (const auto m = law.measure(head, reach)) note(p.tallies[law.name], law, *m, where + ", " + place_in(head, *m));
}

void add_new(std::vector<Finding>& all, Finding finding, const std::string& where) {
  const auto same = [&](const Finding& f) { return f.name == finding.name && f.kind == finding.kind; };
  if (std::any_of(all.begin(), all.end(), same)) return;
  finding.where = where + (finding.where.empty() ? "" : ", " + finding.where);
  all.push_back(std::move(finding));
}

// Weight where the mask hides, too little to show in whole tensors.
void leak(Patient& p, const std::string& where) {
  if (p.tallies["masked weights"].broken == 0) return;
  add_new(p.others,
          {Finding::Kind::diagnosis, "finite fill", "masked scores are finite instead of -inf, which leaks weight", "",
           0, 0, 0, 0.9, "within rounding all is as it was told, but for weights where the mask hides the key",
           "set masked scores to -inf before softmax"},
          where);
}

void examine_sequence(Patient& p, const Specimen& one, const std::string& where) {
  if (const auto bad = not_finite(one, where)) {
    if (bad->kind == Finding::Kind::broken_law) p.tallies["finite"] = {true, 1, 1, *bad, 1};
    else add_new(p.others, *bad, "");
    return;
  }
  const detail::Explanation e = explain(one, p.format);
  std::vector<Head> heads;
  for (std::int64_t kv = 0; kv < one.kv_heads(); ++kv) {
    Head& head = heads.emplace_back(head_of(one, kv, e.taken(), e.weights, p.format));
    head.explained = e.taken().lawful && (!e.forward || e.explains());
    check_laws(p, head, where);
  }
  if (auto keys = odd_keys(one, heads, e)) add_new(p.others, *keys, where);
  const std::vector<Finding> signs = detail::signs_of(one, heads, e.weights);
  const auto is_dropout = [](const Finding& f) { return f.name == "dropout on"; };
  if (auto wrong = mistake_of(e, std::any_of(signs.begin(), signs.end(), is_dropout))) add_new(p.others, *wrong, where);
  for (const Finding& sign : signs) add_new(p.others, sign, where);
  const int chain = p.tallies["dQ"].broken + p.tallies["dK"].broken + p.tallies["dV"].broken;
  if (auto wrong = detail::backward_mistake(one, heads, chain)) add_new(p.others, *wrong, where);
  if (e.best == 0) leak(p, where);
}

// Softmax over the wrong axis of all shows in no sequence by itself.
void across_sequences(Patient& p, const Specimen& wide) {
  if (wide.batch() < 2 || wide.weights.empty() || p.tallies["row sums"].broken == 0) return;
  const Tensor off = abs(sum(wide.weights, 0) - 1.0);
  const double enough = (8 + 4 * std::sqrt(double(wide.Tk() + wide.batch()))) * p.format.u;
  if (!finite(off) || max(off).item() > enough) return;
  add_new(p.others,
          {Finding::Kind::diagnosis, "softmax over the batch", "softmax runs over the sequences of the batch", "", 0, 0,
           0, 0.99, "the weights of one query and key sum to 1 over the batch, but not over the keys",
           "softmax runs over the last axis of the scores: axis -1, not 0"},
          "all sequences");
}

std::vector<Finding> broken_laws(Patient& p, Examination& result) {
  std::vector<Finding> all;
  if (p.tallies["finite"].checked) all.push_back(p.tallies["finite"].worst);
  for (const detail::Law& law : detail::laws()) {
    Tally& tally = p.tallies[law.name];
    if (!tally.checked) result.unchecked.push_back(law.name + ": needs " + law.needs);
    else if (tally.broken == 0) result.held.push_back(law.name);
    if (tally.broken == 0) continue;
    tally.worst.evidence = sentence("broken in ", tally.broken, " of ", tally.heads, " heads; here ", tally.excess,
                                    " times what rounding allows");
    all.push_back(tally.worst);
  }
  return all;
}

}   // namespace

Examination examine(const Specimen& specimen, int bits) {
  check(specimen);
  require(bits >= 0 && bits <= 53, "examine: bits ", bits, " must be 0 to 53");
  const NoRecord pause;
  const Specimen wide = tidied(in_float64(specimen));
  Patient p{detail::format_of(specimen, bits)};
  for (std::int64_t b = 0; b < wide.batch(); ++b) examine_sequence(p, one_sequence(wide, b), place(specimen, b));
  across_sequences(p, wide);
  Examination result{.unit_roundoff = p.format.u};
  result.findings = broken_laws(p, result);
  std::stable_sort(p.others.begin(), p.others.end(),
                   [](const Finding& a, const Finding& b) { return a.certainty > b.certainty; });
  if (p.others.size() > 1)   // sharper words than "unexplained"
    std::erase_if(p.others, [&](const Finding& f) { return f.name == "unexplained" && p.others[0].certainty > 0.8; });
  for (Finding& f : p.others)
    (f.kind == Finding::Kind::observation ? result.observations : result.findings).push_back(std::move(f));
  return result;
}

std::vector<LawOfAttention> laws_of_attention() {
  std::vector<LawOfAttention> all{
      {"finite", "finite queries, keys and values give finite numbers", "no nan, no infinity", "any result"}};
  for (const detail::Law& law : detail::laws()) all.push_back({law.name, law.sentence, law.formula, law.needs});
  return all;
}

}   // namespace surgeon
