// What is wrong with somebody else's attention: laws first, then the mistake that explains the numbers.
#include "layers/doctor.hpp"

#include <cmath>

#include "experiments/specimen_files.hpp"

namespace surgeon::experiments {
namespace {

void write_finding(Lab& lab, const Finding& f) {
  const bool law = f.kind == Finding::Kind::broken_law;
  Row row{{"kind", law ? "broken law" : "diagnosis"},
          {"name", f.name},
          {"where", f.where},
          {"certainty", f.certainty},
          {"sentence", f.sentence},
          {"evidence", f.evidence},
          {"cure", f.cure}};
  if (law) row = row + Row{{"found", f.found}, {"expected", f.expected}, {"allowed_difference", f.allowed}};
  lab.row(row);
}

void say_finding(Lab& lab, const Finding& f) {
  if (f.kind == Finding::Kind::broken_law) {
    lab.say("BROKEN LAW: " + f.sentence + ".");
    lab.say("  at " + f.where + ": " + number(f.found, 6) + ", must be " + number(f.expected, 6) + " within " +
            number(f.allowed));
  } else {
    lab.say("DIAGNOSIS (" + number(100 * f.certainty, 2) + " % sure): " + f.sentence + ".");
    lab.say("  at " + f.where);
  }
  lab.say("  evidence: " + f.evidence);
  lab.say("  cure: " + f.cure + "\n");
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : "; ") + name;
  return text;
}

std::string verdict(const std::vector<Finding>& findings, std::size_t held) {
  if (findings.empty())
    return "Healthy: " + std::to_string(held) + " laws were checked and hold, and nothing else was found.";
  std::size_t broken = 0;
  for (const Finding& f : findings) broken += f.kind == Finding::Kind::broken_law;
  std::string text = std::to_string(findings.size()) + (findings.size() == 1 ? " finding" : " findings");
  if (broken > 0)
    text += "; " + std::to_string(broken) +
            (broken == 1 ? " is a broken law, which proves a bug" : " are broken laws, which prove a bug");
  return text + ". First: " + findings[0].sentence + ".";
}

void options(Options& o, SpecimenFiles& files) { add_options(o, files); }

void run(Lab& lab, const SpecimenFiles& files) {
  for (const std::string& sentence : files.ignored) lab.warn(sentence);
  std::vector<Finding> all;
  std::size_t held = 0;
  const Subject subject = files.subject(lab);
  if (!subject.about.empty()) lab.say(subject.about + "\n");
  for (const Specimen& specimen : subject.layers) {
    Lab::stop_if_interrupted();
    const Examination e = examine(specimen);
    held += e.held.size();
    const std::string layer = specimen.name.empty() ? "" : "Layer " + specimen.name + ": ";
    lab.say(layer + "laws that hold: " + (e.held.empty() ? "none" : listed(e.held)) + ". Numbers have " +
            std::to_string(-std::ilogb(e.unit_roundoff)) + " bits.");
    if (!e.unchecked.empty()) lab.say(layer + "not checked: " + listed(e.unchecked) + ".");
    lab.say("");
    for (const std::string& law : e.held) lab.row({{"kind", "law holds"}, {"name", law}, {"where", specimen.name}});
    all.insert(all.end(), e.findings.begin(), e.findings.end());
  }
  for (const Finding& f : all) {
    write_finding(lab, f);
    say_finding(lab, f);
  }
  lab.result("findings", std::int64_t(all.size()));
  lab.result("laws_that_hold", std::int64_t(held));
  lab.verdict(verdict(all, held));
  if (!all.empty()) throw Findings();
}

}  // namespace

Experiment doctor() {
  return {"doctor",
          "Is something wrong with this attention, and what?",
          "Varied: nothing; give it Q, K, V and whatever else was kept: weights, output, dO, dQ, dK, dV, dS, dP. "
          "Measured: laws that hold for any correct attention gradient, against what rounding allows; then some forty "
          "known mistakes, by recomputing attention with each of them. Look at broken laws: each proves a bug. A "
          "diagnosis names the mistake, how sure it is, and the cure. Exit code 0: healthy; 3: findings.",
          {"surgeon doctor attention.npz --layout BHTd --causal",
           "surgeon doctor attention.npz --layout BHTd --causal --json"},
          knobs<SpecimenFiles>(options, run),
          false};
}

}  // namespace surgeon::experiments
