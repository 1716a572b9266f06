#include "experiments/specimen_files.hpp"

#include <algorithm>
#include <filesystem>
#include <memory>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "experiments/specimen_files/tensors.hpp"
#include "experiments/training.hpp"
#include "framework/errors.hpp"
#include "framework/serialize.hpp"

namespace surgeon {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> of_tensors{"--tensor", "--layout", "--kv-heads", "--scale", "--window", "--soft-cap"};
const std::vector<std::string> of_weights{"--kind", "--prefix", "--length", "--rotary-base", "--rotary-pairs",
                                          "--norm-eps", "--context"};

// What was given and would have no effect is refused.
void refuse(Options& o, const std::vector<std::string>& names, const std::string& what) {
  for (const Options::Entry& e : o.entries())
    if (e.given && std::find(names.begin(), names.end(), e.name) != names.end())
      throw UsageError(fmt::format("{} has no effect on {}", e.name, what));
}

// ---- Tensors -------------------------------------------------------------------------------------------------------
// A safetensors file may say its layout, and that its queries see no later keys.
TensorFile read_file_of(const SpecimenFiles& f) {
  if (f.file.empty()) return {};
  return f.file.ends_with(".safetensors") ? load_safetensors(f.file) : TensorFile{load_weight_file(f.file), {}};
}

std::string said(const TensorFile& read, const std::string& key, const std::string& otherwise) {
  const auto found = read.metadata.find(key);
  return found == read.metadata.end() ? otherwise : found->second;
}

void take_tensors(SpecimenFiles& f, const TensorFile& read) {
  const std::string layout = f.layout == "auto" ? said(read, "layout", f.layout) : f.layout;
  if (layout != "auto" && layout != "BHTd" && layout != "BTHd")
    throw UsageError(f.file + ": its layout, \"" + layout + "\", must be BHTd or BTHd; --layout says another");
  f.causal = f.causal || said(read, "causal", "false") == "true";
  const std::vector<Specimen> layers = specimens_of(read.tensors, f, layout, f.ignored);
  f.sequences = layers[0].batch();
  for (const Specimen& s : layers) f.sequences = std::min(f.sequences, s.batch());
  f.keys = layers[0].Tk();
  f.subject = [layers](Lab&) { return Subject{layers}; };
}

// ---- Weights -------------------------------------------------------------------------------------------------------
// Tokens that are numbers.
std::vector<std::vector<std::string>> numbers_of(const Tensor& tokens) {
  std::vector<std::vector<std::string>> words(std::size_t(tokens.shape(0)));
  for (std::int64_t b = 0; b < tokens.shape(0); ++b)
    for (std::int64_t t = 0; t < tokens.shape(1); ++t)
      words[std::size_t(b)].push_back(std::to_string(std::int64_t(tokens.at({b, t}))));
  return words;
}

void take_weights(SpecimenFiles& f, const Parameters& theirs) {
  f.weights.foreign.heads = f.heads;
  f.weights.causal = f.causal;
  understand(f.weights, theirs);
  const WeightFiles& w = f.weights;
  f.sequences = w.given.defined() ? w.given.shape(0) : 1;
  f.keys = w.given.defined() ? w.given.shape(1) : length_of_random_input(w);
  f.subject = [&w](Lab& lab) {
    show_table(lab, *w.found);
    const WeightRun run = run_weights(lab, w);
    Subject subject{.layers = run.layers, .about = "The weights are those of the file."};
    if (w.found->model) subject.words = numbers_of(run.input);
    if (run.loss.defined())
      subject.about = fmt::format("The model reads its input with a loss of {} nats per token.",
                                  number(run.loss.item()));
    return subject;
  };
}

// ---- Runs ----------------------------------------------------------------------------------------------------------
using Runs = std::vector<std::pair<std::string, std::shared_ptr<const Trainer>>>;   // a twin's rule, and the twin

// Held-out sequences, or those that the user gives; each token is asked for what follows it.
Batch batch_for(const Trainer& trainer, const Tensor& given) {
  constexpr std::int64_t sequences = 4;
  if (given.empty()) return trainer.probe_batch(sequences);
  const std::int64_t B = given.shape(0), T = given.shape(1);
  return {given, concat({slice(given, 1, 1, T), full({B, 1}, std::int64_t{-100}, Dtype::int64)}, 1)};
}

Subject watched(const Runs& runs, const Batch& batch, const std::string& where) {
  Subject subject;
  for (const auto& [rule, trainer] : runs) {
    const Watched seen = trainer->watched(batch);
    for (Specimen s : seen.layers) {
      if (!rule.empty()) s.name = rule + "." + s.name;
      subject.layers.push_back(std::move(s));
    }
    if (!subject.words.empty()) continue;   // twins read the same
    for (std::int64_t b = 0; b < seen.tokens.shape(0); ++b)
      subject.words.push_back(words_of(seen.tokens, b, seen.tokens.shape(1), trainer->task()));
  }
  const std::int64_t sequences = batch.tokens.shape(0);
  subject.about = fmt::format("{}: {} after {} steps of training on {}. The gradients are those of the mean loss of {} "
                              "sequence{}.", where, runs.size() == 1 ? "a model" : fmt::format("{} twins", runs.size()),
                              runs[0].second->done(), runs[0].second->task().name, sequences, sequences == 1 ? "" : "s");
  return subject;
}

void take_runs(SpecimenFiles& f, const std::vector<std::pair<std::string, fs::path>>& checkpoints) {
  Runs runs;
  for (const auto& [rule, checkpoint] : checkpoints) {
    runs.emplace_back(rule, trainer_of(read_saved(checkpoint)));
    if (runs.back().second->model().blocks.empty())
      throw UsageError(fmt::format("{}: its model has no layers, hence no attention", checkpoint.string()));
    if (runs.back().second->knobs().weighting != "softmax")
      throw UsageError(fmt::format("{}: its weights are {}, and only softmax's can be measured",
                                   checkpoint.string(), runs.back().second->knobs().weighting));
  }
  const Task& task = runs[0].second->task();   // twins share it
  Tensor given;
  if (!f.weights.input.empty()) given = load_tokens(f.weights.input, {.fewest = 2, .most = task.tokens, .vocabulary = task.vocabulary});
  const Batch batch = batch_for(*runs[0].second, given);
  f.checkpoint = checkpoints[0].second;
  f.sequences = batch.tokens.shape(0), f.keys = batch.tokens.shape(1);
  f.subject = [runs, batch, where = f.file](Lab&) { return watched(runs, batch, where); };
}

// The last checkpoint of a run of train; those of twins, by rule.
std::vector<std::pair<std::string, fs::path>> checkpoints_in(const fs::path& folder) {
  const fs::path last = folder / "checkpoints" / "last.safetensors";
  std::error_code none;
  if (fs::exists(last, none)) return {{"", last}};
  std::vector<std::pair<std::string, fs::path>> all;
  for (fs::directory_iterator i(folder / "checkpoints", none), end; !none && i != end; i.increment(none))
    if (i->path().extension() == ".safetensors") all.emplace_back(i->path().stem().string(), i->path());
  std::sort(all.begin(), all.end());
  return all;
}

// ---- What it is ----------------------------------------------------------------------------------------------------
void take_run(Options& o, SpecimenFiles& f, const std::vector<std::pair<std::string, fs::path>>& checkpoints) {
  for (const auto& names : {of_tensors, of_weights, {"--heads", "--causal"}})
    refuse(o, names, "a run: its own options say it");
  take_runs(f, checkpoints);
}

void load(Options& o, SpecimenFiles& f) {
  std::error_code unknown;
  if (fs::is_directory(f.file, unknown)) {
    const auto checkpoints = checkpoints_in(f.file);
    f.file = fs::proximate(fs::canonical(f.file)).string();   // runs/latest will be another run
    if (!checkpoints.empty()) return take_run(o, f, checkpoints);
    const fs::path imported = fs::path(f.file) / "attention.safetensors";
    if (!fs::exists(imported, unknown))
      throw UsageError(f.file + " is a folder, but not a run of train, twins or import: it has no checkpoints and no "
                       "attention.safetensors");
    f.file = imported.string();
  }
  const TensorFile read = read_file_of(f);
  if (read.metadata.contains("checkpoint")) return take_run(o, f, {{"", f.file}});
  if (!f.tensors.empty() || has_queries(read.tensors)) {
    for (const auto& names : {of_weights, {"--input"}}) refuse(o, names, "tensors: it is for weights");
    return take_tensors(f, read);
  }
  if (f.heads == 0)
    throw UsageError(fmt::format("{} has no tensor named Q; --tensor Q=NAME gives one that name. If it holds weights, "
                                 "--heads must say how many heads they have", f.file));
  refuse(o, of_tensors, "weights: it is for tensors");
  take_weights(f, read.tensors);
}

}  // namespace

void add_options(Options& o, SpecimenFiles& f) {
  o.add("file", f.file,
        "Q, K, V and, if there are any, X, mask, bias, output, weights, dO, dP, dS, dQ, dK, dV, in a .npz, .safetensors "
        "or .pt, with LAYER.Q for several layers; or weights, as for `surgeon import`; or a run of train or twins, or "
        "one of its checkpoints");
  o.add("--tensor", f.tensors, "NAME=FILE.npy, or NAME=TENSOR for one in the file that has another name");
  o.add("--layout", f.layout, "order of the axes of tensors with four; auto refuses what could be either",
        {.choices = {"auto", "BHTd", "BTHd"}});
  o.add("--heads", f.heads, "heads of weights; or those that lie side by side in tensors with three axes, "
        "[B, T, heads * d], where 0 means one", {.low = 0, .high = 1e4});
  o.add("--kv-heads", f.kv_heads, "the same for keys and values of tensors; 0: as many as --heads", {.low = 0});
  o.add("--scale", f.scale, "factor of the scores: d_k for 1/sqrt(d_k), none, or a number");
  o.add("--causal", f.causal, "query i sees keys up to its own place only, in addition to any mask");
  o.add("--window", f.window, "only keys fewer than this many places away; 0: all", {.low = 0});
  o.add("--soft-cap", f.soft_cap, "scores are capped by tanh at this size; 0: not at all", {.low = 0});
  add_weight_options(o, f.weights);
  o.before_check([&o, &f] {
    if (!f.file.empty() || !f.tensors.empty()) load(o, f);
  });
  o.require([&f] { return f.may_be_missing || !f.file.empty() || !f.tensors.empty(); },
            "a file is missing: a .npz, .safetensors, .pt or a run, or --tensor Q=FILE.npy,K=FILE.npy,V=FILE.npy");
}

Subject opened(Lab& lab, const SpecimenFiles& f) {
  for (const std::string& sentence : f.ignored) lab.warn(sentence);
  if (!f.subject) return {};
  Subject subject = f.subject(lab);
  if (!subject.about.empty()) lab.say(subject.about + "\n");
  return subject;
}

std::string shown_name(const Specimen& layer) { return layer.name.empty() ? "the layer" : layer.name; }

void check_sequence(const SpecimenFiles& f, std::int64_t sequence) {
  if (f.sequences > 0 && sequence >= f.sequences)
    throw UsageError(fmt::format("--sequence {}: there {} {}, counted from 0", sequence,
                                 f.sequences == 1 ? "is" : "are", f.sequences));
}

// ---- Without a file ------------------------------------------------------------------------------------------------
void add_random_options(Options& o, RandomHeads& r, SpecimenFiles& f) {
  o.add("--sequence", r.sequence, "which of the batch of a file", {.low = 0});
  o.add("--d-k", r.d_k, "without a file: size of the random queries, keys and values", {.low = 1, .high = 1e6});
  o.add("--tokens", r.tokens, "without a file: how many", {.low = 1, .high = 4096});
  o.add("--draws", r.draws, "without a file: heads to draw from N(0,1)", {.low = 1, .high = 1e5, .quick = "50"});
  o.before_check([&o, &r, &f] {
    if (f.sequences == 0) return refuse(o, {"--sequence"}, "random heads");
    refuse(o, {"--d-k", "--tokens", "--draws"}, "a file");
    check_sequence(f, r.sequence);
  });
}

namespace {

Subject random_heads(Lab& lab, const RandomHeads& r) {
  Rng rng = lab.rng();
  const auto normal = [&] { return randn({1, r.draws, r.tokens, r.d_k}, rng, Dtype::float64); };
  Specimen scaled{.name = "scaled", .Q = normal(), .K = normal(), .V = normal(), .dO = normal()};
  Specimen unscaled = scaled;
  unscaled.name = "unscaled", unscaled.scale = false;
  lab.say(fmt::format("No file: {} heads of {} tokens, Q, K, V and dO from N(0,1), d_k {}.\n", r.draws, r.tokens, r.d_k));
  return {.layers = {scaled, unscaled}};
}

}  // namespace

Subject with_upstream(Lab& lab, const SpecimenFiles& f, const RandomHeads& r) {
  Subject subject = f.subject ? opened(lab, f) : random_heads(lab, r);
  for (std::size_t i = 0; i < subject.layers.size(); ++i) {
    Specimen& s = subject.layers[i];
    if (s.dO.defined()) continue;
    if (i == 0) lab.say("There is no upstream gradient dO: one is drawn from N(0,1).\n");
    Rng rng = lab.rng(1 + i);
    s.dO = randn({s.batch(), s.heads(), s.Tq(), s.V.shape(3)}, rng, s.Q.dtype());
  }
  return subject;
}

}  // namespace surgeon
