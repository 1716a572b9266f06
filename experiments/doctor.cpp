// What is wrong with somebody else's attention: laws first, then the mistake that explains the numbers.
#include "layers/doctor.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "experiments/specimen_files.hpp"
#include "framework/serialize.hpp"

namespace surgeon::experiments {
namespace {

void write_finding(Lab& lab, const Finding& f) {
  const bool law = f.kind == Finding::Kind::broken_law, observed = f.kind == Finding::Kind::observation;
  Row row{{"kind", law ? "broken law" : observed ? "observation" : "diagnosis"},
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
  } else if (f.kind == Finding::Kind::observation) {
    lab.say("Observation: " + f.sentence + ".");
    lab.say("  at " + f.where + ": " + f.evidence);
    return lab.say("  if it matters: " + f.cure + "\n");
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
  if (findings.empty() && held == 0)
    return "Nothing was found, but no law could be checked: give the output, the weights or gradients as well.";
  if (findings.empty())
    return "Healthy: " + std::to_string(held) + " laws were checked and hold, and no mistake was found.";
  std::size_t broken = 0;
  for (const Finding& f : findings) broken += f.kind == Finding::Kind::broken_law;
  std::string text = std::to_string(findings.size()) + (findings.size() == 1 ? " finding" : " findings");
  if (broken > 0)
    text += "; " + std::to_string(broken) +
            (broken == 1 ? " is a broken law, which proves a bug" : " are broken laws, which prove a bug");
  return text + ". First: " + findings[0].sentence + ".";
}

struct Knobs {
  SpecimenFiles files;
  std::string weighting = "softmax";
  std::int64_t bits = 0;
  std::string checkpoint = {};
  Parameters state = {};   // of the checkpoint
  AdamState adam = {};
};

// A checkpoint, or a run folder with its last one.
void read_checkpoint(Knobs& k) {
  k.files.may_be_missing = !k.checkpoint.empty();
  const bool asked = !k.checkpoint.empty();   // or a run is examined, whose checkpoint it is
  if (!asked && k.files.checkpoint.empty()) return;
  std::filesystem::path path = asked ? k.checkpoint : k.files.checkpoint.string();
  if (std::filesystem::is_directory(path)) path /= "checkpoints/last.safetensors";
  k.state = load_safetensors(path).tensors;
  for (const auto& [name, x] : k.state)
    if (name.ends_with("optimizer/step") && x.size() > 0) k.adam.steps = std::int64_t(max(x.to(Dtype::float64)).item());
  const auto is_moment = [](const auto& entry) { return entry.first.find("exp_avg_sq.") != std::string::npos; };
  if (std::any_of(k.state.begin(), k.state.end(), is_moment)) return;
  if (asked) throw UsageError(path.string() + ": has no moments of Adam, tensors named exp_avg_sq.NAME");
  k.state = {};
}

void options(Options& o, Knobs& k) {
  add_options(o, k.files);
  o.add("--weighting", k.weighting, "how scores become weights; off-by-one: exp(s) / (1 + sum exp(s))",
        {.choices = {"softmax", "off-by-one"}});
  o.add("--bits", k.bits, "significant bits of the arithmetic, if coarser than the numbers show (TF32: 11); 0: they do",
        {.low = 0, .high = 53});
  o.add("--checkpoint", k.checkpoint,
        "a run folder or a checkpoint of `surgeon train`: does Adam move key biases by rounding noise?");
  o.add("--adam-eps", k.adam.eps, "the eps that Adam had", {.low = 0});
  o.before_check([&k] { read_checkpoint(k); });
}

void run(Lab& lab, const Knobs& k) {
  std::vector<Finding> all, observations;
  std::size_t held = 0;
  const Subject subject = opened(lab, k.files);
  for (Specimen specimen : subject.layers) {
    Lab::stop_if_interrupted();
    if (k.weighting != "softmax") specimen.weighting = Weighting::off_by_one;
    const Examination e = examine(specimen, int(k.bits));
    held += e.held.size();
    const std::string layer = specimen.name.empty() ? "" : "Layer " + specimen.name + ": ";
    lab.say(layer + "laws that hold: " + (e.held.empty() ? "none" : listed(e.held)) + ". Numbers have " +
            std::to_string(-std::ilogb(e.unit_roundoff)) + " bits.");
    if (!e.unchecked.empty()) lab.say(layer + "not checked: " + listed(e.unchecked) + ".");
    lab.say("");
    for (const std::string& law : e.held) lab.row({{"kind", "law holds"}, {"name", law}, {"where", specimen.name}});
    all.insert(all.end(), e.findings.begin(), e.findings.end());
    observations.insert(observations.end(), e.observations.begin(), e.observations.end());
  }
  for (const Finding& f : examine_key_biases(k.state, k.adam)) observations.push_back(f);
  for (const auto* list : {&all, &observations})
    for (const Finding& f : *list) {
      write_finding(lab, f);
      say_finding(lab, f);
    }
  lab.result("findings", std::int64_t(all.size()));
  lab.result("observations", std::int64_t(observations.size()));
  lab.result("laws_that_hold", std::int64_t(held));
  if (subject.layers.empty())
    lab.verdict(observations.empty() ? "No key bias is moved by rounding noise."
                                     : "Key biases drift; attention does not notice, but their numbers grow.");
  else lab.verdict(verdict(all, held));
  if (!all.empty()) throw Findings();
}

}  // namespace

Experiment doctor() {
  return {"doctor",
          "Is something wrong with this attention, and what?",
          "Varied: nothing; give it Q, K, V and whatever else was kept: weights, output, dO, dQ, dK, dV, dS, dP. "
          "Measured: laws that hold for any correct attention gradient, against what rounding allows; then some forty "
          "known mistakes, by recomputing attention with each of them. Look at broken laws: each proves a bug. A "
          "diagnosis names the mistake, how sure it is, and the cure. Observations (sinks, sharp heads) are true of "
          "healthy layers too. Exit code 0: healthy; 3: broken laws or diagnoses.",
          {"surgeon doctor attention.npz --layout BHTd --causal",
           "surgeon doctor attention.npz --layout BHTd --causal --json"},
          knobs<Knobs>(options, run),
          false};
}

}  // namespace surgeon::experiments
