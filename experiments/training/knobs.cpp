// The knobs of a training run: their options, the task and the model they describe, and whether it fits into memory.
#include <sys/resource.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "experiments/training.hpp"
#include "layers/initialise.hpp"

namespace surgeon {
namespace {

// What one types for each enumerator.
template <class Enum> using Names = std::vector<std::pair<std::string, Enum>>;

template <class Enum>
std::vector<std::string> typed(const Names<Enum>& names) {
  std::vector<std::string> all;
  for (const auto& [name, value] : names) all.push_back(name);
  return all;
}

// The options have been checked: the name is in the table.
template <class Enum>
Enum choice(const std::string& asked, const Names<Enum>& names) {
  return std::find_if(names.begin(), names.end(), [&](const auto& entry) { return entry.first == asked; })->second;
}

const Names<Positions> position_names{{"none", Positions::none}, {"learned", Positions::learned},
                                      {"sinusoidal", Positions::sinusoidal}, {"rotary", Positions::rotary},
                                      {"alibi", Positions::alibi}};
const Names<NormKind> norm_names{{"layer", NormKind::layer}, {"rms", NormKind::rms}};
const Names<NormPlace> norm_places{{"pre", NormPlace::pre}, {"post", NormPlace::post}};
const Names<Activation> activation_names{{"relu", Activation::relu}, {"gelu", Activation::gelu},
                                         {"gelu-tanh", Activation::gelu_tanh}, {"silu", Activation::silu},
                                         {"swiglu", Activation::swiglu}};
const Names<Init> init_names{{"gpt2", Init::gpt2}, {"xavier-uniform", Init::xavier_uniform},
                             {"xavier-normal", Init::xavier_normal}, {"kaiming-uniform", Init::kaiming_uniform},
                             {"kaiming-normal", Init::kaiming_normal}};
const Names<QkNorm> qk_norm_names{{"none", QkNorm::none}, {"l2", QkNorm::l2}, {"rms", QkNorm::rms}};
const Names<Weighting> weighting_names{{"softmax", Weighting::softmax}, {"off-by-one", Weighting::off_by_one},
                                       {"sigmoid", Weighting::sigmoid}};

void check_sizes(const TrainKnobs& k) {
  if (k.d_model % k.heads != 0) throw UsageError("--heads must divide --d-model");
  if (k.kv_heads != 0 && k.heads % k.kv_heads != 0) throw UsageError("--kv-heads must divide --heads");
  if (k.positions == "rotary" && k.d_model / k.heads % 2 != 0)
    throw UsageError("--positions rotary needs an even head size, but --d-model divided by --heads is odd");
}

}  // namespace

void add_model_options(Options& o, TrainKnobs& k) {
  o.add("--tokens", k.tokens, "tokens that the model reads at once (T)", {.low = 2, .high = 65536});
  o.add("--symbols", k.symbols, "distinct symbols of a generated task; 0: the task's default", {.low = 0, .high = 1e6});
  o.add("--layers", k.layers, "Transformer blocks", {.low = 0, .high = 1000});
  o.add("--heads", k.heads, "attention heads per block; must divide --d-model", {.low = 1, .high = 4096});
  o.add("--kv-heads", k.kv_heads, "heads of keys and values; must divide --heads; 0: as many as --heads",
        {.low = 0, .high = 4096});
  o.add("--d-model", k.d_model, "width of the model", {.low = 1, .high = 1e6});
  o.add("--hidden", k.hidden, "hidden width of the feed-forward network; 0: 4 times --d-model",
        {.low = 0, .high = 1e7});
  o.add("--positions", k.positions, "position encoding", {.choices = typed(position_names)});
  o.add("--norm", k.norm, "kind of normalisation", {.choices = typed(norm_names)});
  o.add("--norm-place", k.norm_place, "normalise before or after attention and the feed-forward network",
        {.choices = typed(norm_places)});
  o.add("--activation", k.activation, "activation of the feed-forward network", {.choices = typed(activation_names)});
  o.add("--untied", k.untied, "separate output weights instead of the transposed embedding");
  o.add("--init", k.init, "how weights are initialised", {.choices = typed(init_names)});
  o.add("--dropout", k.dropout, "dropout probability, on attention weights and on what each sublayer adds",
        {.low = 0, .high = 0.99});
  o.add("--qk-norm", k.qk_norm, "normalisation of queries and keys", {.choices = typed(qk_norm_names)});
  o.add("--soft-cap", k.soft_cap, "cap c: a score s becomes c tanh(s / c); 0: no cap", {.low = 0});
  o.add("--weighting", k.weighting, "how scores become weights", {.choices = typed(weighting_names)});
  o.add("--window", k.window, "keys that a query sees, itself and those before it; 0: all", {.low = 0});
  o.before_check([&k] { check_sizes(k); });
}

void add_training_options(Options& o, TrainKnobs& k) {
  o.add("--steps", k.steps, "updates to make", {.low = 1, .high = 1e9, .quick = "100"});
  o.add("--batch", k.batch, "sequences in a batch", {.low = 1, .high = 1e6});
  o.add("--accumulate", k.accumulate, "batches in an update", {.low = 1, .high = 1e6});
  o.add("--lr", k.lr, "peak learning rate", {.low = 0});
  o.add("--optimizer", k.optimizer, "optimizer to use", {.choices = {"sgd", "adam", "adamw"}});
  o.add("--momentum", k.momentum, "SGD momentum", {.low = 0, .high = 1});
  o.add("--weight-decay", k.weight_decay, "weight decay; norms and biases are exempt", {.low = 0});
  o.add("--schedule", k.schedule, "learning-rate schedule",
        {.choices = {"constant", "warmup", "cosine", "warmup-cosine", "step", "exponential"}});
  o.add("--warmup", k.warmup, "warm-up steps, until the learning rate peaks", {.low = 0, .high = 1e9});
  o.add("--clip", k.clip, "largest gradient norm; larger gradients are scaled down to it; 0: no limit", {.low = 0});
  o.add("--outliers", k.outliers,
        "skip steps whose gradient norm is more than this many times the recent median; 0: skip none", {.low = 0});
  o.add("--overfit-one-batch", k.overfit_one_batch, "train on the first batch only, as a sanity check");
  o.before_check([&k] {
    if (k.outliers != 0.0 && k.outliers < 1.0) throw UsageError("--outliers must be 0 or at least 1");
  });
}

void add_run_options(Options& o, TrainKnobs& k) {
  o.add("task", k.task, "task to learn", {.choices = task_names()});
  o.add("--file", k.file, "file to read when the task is text; default: the King James Bible");
  add_model_options(o, k);
  o.add("--scale", k.scale, "factor on the scores: sqrt (1/sqrt(d_k)), inverse (1/d_k), log-n, learned, none, or a "
                            "number");
  add_training_options(o, k);
}

void set_scale(const std::string& rule, TransformerConfig& config) {
  const double d_k = double(config.block.d_model / config.block.heads);
  if (rule == "none") config.attention.scale = false;
  else if (rule == "sqrt") config.attention.scale = true;
  else if (rule == "inverse") config.attention.scale = Scale::inverse();
  else if (rule == "log-n") config.attention.scale = Scale::log_n();
  else if (rule == "learned") config.block.projections.learned_scale = 1.0 / std::sqrt(d_k);
  else {
    double factor = 0;
    const auto [end, error] = std::from_chars(rule.data(), rule.data() + rule.size(), factor);
    if (error != std::errc() || end != rule.data() + rule.size() || !std::isfinite(factor))
      throw UsageError(
          fmt::format("\"{}\" is not a scale; use none, sqrt, inverse, log-n, learned or a number", rule));
    config.attention.scale = factor;
  }
}

Task make_task(const TrainKnobs& k) {
  return make_task(k.task, {.tokens = k.tokens, .symbols = k.symbols, .file = k.file});
}

TransformerConfig model_config(const TrainKnobs& k, const Task& task, Dtype dtype) {
  TransformerConfig config{.vocabulary = task.vocabulary, .context = task.tokens, .layers = k.layers};
  config.block = {.d_model = k.d_model, .heads = k.heads, .hidden = k.hidden,
                  .norm_place = choice(k.norm_place, norm_places),
                  .norm = choice(k.norm, norm_names),
                  .activation = choice(k.activation, activation_names), .dropout = k.dropout,
                  .projections = {.kv_heads = k.kv_heads}, .dtype = dtype, .make_attention = k.make_attention};
  config.positions = choice(k.positions, position_names);
  config.tied = !k.untied;
  config.attention.qk_norm = choice(k.qk_norm, qk_norm_names);
  config.attention.weighting = choice(k.weighting, weighting_names);
  config.attention.soft_cap = k.soft_cap;
  config.attention.window = k.window;
  set_scale(k.scale, config);
  return config;
}

Transformer make_model(const TrainKnobs& k, const Task& task, Rng& rng, Dtype dtype) {
  Transformer model(model_config(k, task, dtype), rng);
  if (k.init != "gpt2") initialise(model.parameters(), choice(k.init, init_names), rng);
  return model;
}

namespace {

// Of this machine, or less where ulimit -v or the control group allows less. Infinite when nobody says.
double memory_here() {
  double memory = std::numeric_limits<double>::infinity();
  struct sysinfo machine {};
  if (sysinfo(&machine) == 0) memory = double(machine.totalram) * double(machine.mem_unit);
  rlimit space{};
  if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY)
    memory = std::min(memory, double(space.rlim_cur));
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {   // "0::/path": the one hierarchy of version 2
    if (!line.starts_with("0::")) continue;
    std::ifstream file("/sys/fs/cgroup" + line.substr(3) + "/memory.max");
    if (double most = 0; file >> most) memory = std::min(memory, most);   // or the word "max"
  }
  return memory;
}

}  // namespace

void check_memory(const TransformerConfig& config, std::int64_t batch) {
  const BlockConfig& b = config.block;
  const double d = double(b.d_model), hidden = b.hidden > 0 ? double(b.hidden) : 4 * d, T = double(config.context);
  const double layers = double(config.layers), V = double(config.vocabulary);
  const double parameters = V * d * (config.tied ? 1 : 2) + T * d + layers * (4 * d * d + 2 * d * hidden);
  // What a step keeps for the backward pass: a dozen vectors of each width per token and block, and the logits thrice.
  double values = double(batch) * T * (layers * (12 * d + 3 * hidden) + 3 * V);
  const AttentionOptions& rules = config.attention;
  const bool keeps_weights = rules.weighting != Weighting::softmax || rules.soft_cap > 0.0 || b.dropout > 0.0 ||
                             b.projections.learned_scale || config.positions == Positions::alibi;
  if (keeps_weights) values += 5 * layers * double(batch * b.heads) * T * T;
  const double bytes = (4 * parameters + values) * double(element_size(b.dtype));   // weights, gradients, two moments
  if (const double memory = memory_here(); bytes > memory)
    throw UsageError(fmt::format("{:.3g} parameters and batches of {} x {} tokens need about {:.3g} GiB, but there are "
                                 "{:.3g} GiB here", parameters, batch, config.context, bytes / 0x1p30,
                                 memory / 0x1p30));
}

}  // namespace surgeon
