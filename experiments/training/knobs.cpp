// The knobs of a training run: their options, the model they describe, and whether it fits into memory.
#include <sys/sysinfo.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "experiments/training.hpp"
#include "layers/initialise.hpp"

namespace surgeon {
namespace {

// One of `names`, as an enumerator: its place in the list.
template <class Enum>
Enum choice(const std::string& name, const std::vector<std::string>& names) {
  return static_cast<Enum>(std::find(names.begin(), names.end(), name) - names.begin());
}

const std::vector<std::string> position_names{"none", "learned", "sinusoidal", "rotary", "alibi"};
const std::vector<std::string> norm_names{"layer", "rms"};
const std::vector<std::string> norm_places{"pre", "post"};
const std::vector<std::string> activation_names{"relu", "gelu", "gelu-tanh", "swiglu"};
const std::vector<std::string> init_names{"gpt2", "xavier-uniform", "xavier-normal", "kaiming-uniform",
                                          "kaiming-normal"};
const std::vector<std::string> qk_norm_names{"none", "l2", "rms"};
const std::vector<std::string> weighting_names{"softmax", "off-by-one", "sigmoid"};

}  // namespace

void add_model_options(Options& o, TrainKnobs& k) {
  o.add("--tokens", k.tokens, "T, what the model reads at once", {.low = 2, .high = 65536});
  o.add("--symbols", k.symbols, "different symbols of a drawn task; 0: its own number", {.low = 0, .high = 1e6});
  o.add("--layers", k.layers, "blocks", {.low = 0, .high = 1000});
  o.add("--heads", k.heads, "heads; they divide --d-model", {.low = 1, .high = 4096});
  o.add("--kv-heads", k.kv_heads, "heads of keys and values, which divide --heads; 0: as many",
        {.low = 0, .high = 4096});
  o.add("--d-model", k.d_model, "width", {.low = 1, .high = 1e6});
  o.add("--hidden", k.hidden, "width inside the feed-forward network; 0: 4 d_model", {.low = 0, .high = 1e7});
  o.add("--positions", k.positions, "how places are told", {.choices = position_names});
  o.add("--norm", k.norm, "which norm", {.choices = norm_names});
  o.add("--norm-place", k.norm_place, "before or after each half", {.choices = norm_places});
  o.add("--activation", k.activation, "of the feed-forward network", {.choices = activation_names});
  o.add("--untied", k.untied, "a head of its own instead of the embedding, transposed");
  o.add("--init", k.init, "how weights start", {.choices = init_names});
  o.add("--dropout", k.dropout, "of weights and of what each half adds", {.low = 0, .high = 0.99});
  o.add("--qk-norm", k.qk_norm, "queries and keys brought to one size", {.choices = qk_norm_names});
  o.add("--soft-cap", k.soft_cap, "scores s become c tanh(s / c); 0: they do not", {.low = 0});
  o.add("--weighting", k.weighting, "how scores become weights", {.choices = weighting_names});
  o.add("--window", k.window, "how many keys back a query sees, itself too; 0: all", {.low = 0});
  o.require([&k] { return k.d_model % k.heads == 0; }, "--heads must divide --d-model");
  o.require([&k] { return k.kv_heads == 0 || k.heads % k.kv_heads == 0; }, "--kv-heads must divide --heads");
  o.require([&k] { return k.positions != "rotary" || k.d_model / k.heads % 2 == 0; },
            "--positions rotary: d_model / heads must be even");
}

void add_training_options(Options& o, TrainKnobs& k) {
  o.add("--steps", k.steps, "updates", {.low = 1, .high = 1e9, .quick = "100"});
  o.add("--batch", k.batch, "sequences in a batch", {.low = 1, .high = 1e6});
  o.add("--accumulate", k.accumulate, "batches in an update", {.low = 1, .high = 1e6});
  o.add("--lr", k.lr, "learning rate, the highest of the schedule", {.low = 0});
  o.add("--optimizer", k.optimizer, "which", {.choices = {"sgd", "adam", "adamw"}});
  o.add("--momentum", k.momentum, "of sgd", {.low = 0, .high = 1});
  o.add("--weight-decay", k.weight_decay, "not of norms and biases", {.low = 0});
  o.add("--schedule", k.schedule, "of the learning rate",
        {.choices = {"constant", "warmup", "cosine", "warmup-cosine", "step", "exponential"}});
  o.add("--warmup", k.warmup, "steps until the learning rate is full", {.low = 0, .high = 1e9});
  o.add("--clip", k.clip, "the largest norm of the gradient; 0: any", {.low = 0});
  o.add("--outliers", k.outliers, "skip steps whose gradient is so many times the usual; 0: none", {.low = 0});
  o.add("--overfit-one-batch", k.overfit_one_batch, "the first batch again and again: a model that cannot is broken");
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
      throw UsageError(fmt::format("scale \"{}\" is none of none, sqrt, inverse, log-n, learned, and no number", rule));
    config.attention.scale = factor;
  }
}

TransformerConfig model_config(const TrainKnobs& k, const Task& task, Dtype dtype) {
  TransformerConfig config{.vocabulary = task.vocabulary, .context = task.tokens, .layers = k.layers};
  config.block = {.d_model = k.d_model, .heads = k.heads, .hidden = k.hidden,
                  .norm_place = choice<NormPlace>(k.norm_place, norm_places),
                  .norm = choice<NormKind>(k.norm, norm_names),
                  .activation = choice<Activation>(k.activation, activation_names), .dropout = k.dropout,
                  .projections = {.kv_heads = k.kv_heads}, .dtype = dtype};
  config.positions = choice<Positions>(k.positions, position_names);
  config.tied = !k.untied;
  config.attention.qk_norm = choice<QkNorm>(k.qk_norm, qk_norm_names);
  config.attention.weighting = choice<Weighting>(k.weighting, weighting_names);
  config.attention.soft_cap = k.soft_cap;
  config.attention.window = k.window;
  set_scale(k.scale, config);
  return config;
}

Transformer make_model(const TrainKnobs& k, const Task& task, Rng& rng, Dtype dtype) {
  Transformer model(model_config(k, task, dtype), rng);
  if (k.init != "gpt2") initialise(model.parameters(), choice<Init>(k.init, init_names), rng);
  return model;
}

void check_memory(const TransformerConfig& config, std::int64_t batch) {
  const BlockConfig& b = config.block;
  const double d = double(b.d_model), hidden = b.hidden > 0 ? double(b.hidden) : 4 * d, T = double(config.context);
  const double layers = double(config.layers), V = double(config.vocabulary);
  const double parameters = V * d * (config.tied ? 1 : 2) + T * d + layers * (4 * d * d + 2 * d * hidden);
  // What a step keeps until the walk back: a dozen vectors of each width per token and block, and the logits thrice.
  double values = double(batch) * T * (layers * (12 * d + 3 * hidden) + 3 * V);
  const AttentionOptions& rules = config.attention;
  const bool keeps_weights = rules.weighting != Weighting::softmax || rules.soft_cap > 0.0 || b.dropout > 0.0 ||
                             b.projections.learned_scale || config.positions == Positions::alibi;
  if (keeps_weights) values += 5 * layers * double(batch * b.heads) * T * T;
  const double bytes = (4 * parameters + values) * double(element_size(b.dtype));   // weights, gradients, two moments
  struct sysinfo machine {};
  if (sysinfo(&machine) != 0) return;
  const double memory = double(machine.totalram) * double(machine.mem_unit);
  if (bytes > memory)
    throw UsageError(fmt::format("{:.3g} parameters and a batch of {} x {} tokens take about {:.3g} GiB, but this "
                                 "machine has {:.3g} GiB",
                                 parameters, batch, config.context, bytes / 0x1p30, memory / 0x1p30));
}

}  // namespace surgeon
