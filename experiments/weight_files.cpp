#include "experiments/weight_files.hpp"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "framework/errors.hpp"
#include "framework/serialize.hpp"
#include "layers/attention_watch.hpp"

namespace surgeon {

void add_weight_options(Options& o, WeightFiles& w) {
  o.add("--kind", w.kind, "whose names the weights have", {.choices = {"auto", "attention", "gpt2", "llama"}});
  o.add("--prefix", w.foreign.prefix, "only weights whose names begin with this");
  o.add("--input", w.input, "a .npy file: tokens [B, T], or [B, T, d_model] for an attention layer alone");
  o.add("--length", w.length, "tokens of the random input, without --input", {.low = 2, .high = 1e5});
  o.add("--rotary-base", w.foreign.rotary_base, "llama: the base of the rotary positions", {.low = 1});
  o.add("--rotary-pairs", w.pairs, "llama: the numbers that are rotated together",
        {.choices = {"halves", "interleaved"}});
  o.add("--norm-eps", w.foreign.norm_eps, "epsilon of the norms; 0: 1e-5 for gpt2, 1e-6 for llama",
        {.low = 0, .high = 1});
  o.add("--context", w.foreign.context, "llama: the longest sequence", {.low = 1, .high = 1e7});
}

Parameters load_weight_file(const std::string& file) {
  for (const char* ending : {".pt", ".pth", ".bin"})
    if (file.ends_with(ending)) return load_pt(file);
  if (file.ends_with(".safetensors")) return load_safetensors(file).tensors;
  if (file.ends_with(".npz")) return load_npz(file);
  if (file.ends_with(".onnx")) return load_onnx(file);
  throw UsageError(file + ": its name must end in .pt, .pth, .bin, .safetensors, .npz or .onnx");
}

Tensor load_tokens(const std::string& file, const TokenLimits& limits) {
  const Tensor tokens = load_npy(file);
  if (tokens.rank() != 2 || tokens.dtype() != Dtype::int64)
    throw UsageError(sentence(file, " is ", tokens.dtype(), " ", tokens.shape(), ": must be int64 tokens [B, T]"));
  const std::int64_t T = tokens.shape(1);
  if (tokens.shape(0) == 0 || T < limits.fewest || T > limits.most)
    throw UsageError(sentence(file, " has tokens ", tokens.shape(), ": the model reads ", limits.fewest, " to ",
                              limits.most, " at once"));
  for (const std::int64_t token : tokens.values<std::int64_t>())
    if (token < 0 || token >= limits.vocabulary)
      throw UsageError(sentence(file, " holds token ", token, ", but the vocabulary has ", limits.vocabulary));
  return tokens;
}

void understand(WeightFiles& w, const Parameters& theirs) {
  w.foreign.rotary_pairs = w.pairs == "halves" ? RotaryPairs::halves : RotaryPairs::interleaved;
  if (w.kind != "auto")
    w.foreign.kind = w.kind == "gpt2" ? Foreign::gpt2 : w.kind == "llama" ? Foreign::llama : Foreign::attention;
  w.found = read_foreign(theirs, w.foreign);
  if (w.input.empty()) return;
  if (w.found->model) {
    const TransformerConfig& config = w.found->model->config;
    w.given = load_tokens(w.input, {.fewest = 1, .most = config.context, .vocabulary = config.vocabulary});
    return;
  }
  const MultiHeadAttention& layer = *w.found->attention;
  w.given = load_npy(w.input);
  if (w.given.rank() != 3 || w.given.shape(2) != layer.d_model || w.given.size() == 0 || !is_floating(w.given.dtype()))
    throw UsageError(sentence(w.input, " is ", w.given.dtype(), " ", w.given.shape(), ": must be [B, T, ", layer.d_model,
                              "]"));
  w.given = w.given.to(layer.W_o.weight.dtype());
}

void show_table(Lab& lab, const ForeignModel& found) {
  const std::string first = "blocks.0.";
  Table whole{found.model ? "Outside of the blocks" : "Their tensors under our names", {"theirs", "how", "ours"}, {}};
  Table block{"", whole.header, {}};
  std::map<std::string, std::pair<std::size_t, std::int64_t>> unused;   // why -> its row, how many
  for (const auto& [theirs, shape, how, ours] : found.table) {
    if (ours.starts_with(first)) {
      const auto at = theirs.find(".0.");
      if (at != std::string::npos) block.title = fmt::format("Every block: {}.# under blocks.#", theirs.substr(0, at));
      block.rows.push_back({at == std::string::npos ? theirs : theirs.substr(at + 3), how, ours.substr(first.size())});
    } else if (ours.empty()) {
      auto& [row, count] = unused.try_emplace(how, whole.rows.size(), 0).first->second;
      if (++count == 1) whole.rows.push_back({theirs, how, "-"});
      else whole.rows[row][1] = fmt::format("{} ({} tensors)", how, count);
    } else if (!ours.starts_with("blocks.")) {
      whole.rows.push_back({theirs, how, ours});
    }
  }
  lab.show(whole);
  if (!block.rows.empty()) lab.show(block);
}

std::int64_t length_of_random_input(const WeightFiles& w) {
  return w.found->model ? std::min(w.length, w.found->model->config.context) : w.length;
}

namespace {

Tensor input_for(Lab& lab, const WeightFiles& k) {
  if (k.given.defined()) return k.given;
  const ForeignModel& found = *k.found;
  Rng rng = lab.rng();
  if (found.attention) {
    lab.say(fmt::format("No --input: {} tokens drawn from N(0,1).", k.length));
    return randn({1, k.length, found.attention->d_model}, rng, found.attention->W_o.weight.dtype());
  }
  const std::int64_t T = length_of_random_input(k), vocabulary = found.model->config.vocabulary;
  lab.say(fmt::format("No --input: {} tokens drawn at random from the vocabulary of {}.", T, vocabulary));
  return randint(0, vocabulary, {1, T}, rng);
}

// The mean cross-entropy of each token after those before it.
Tensor next_token_loss(const Tensor& logits, const Tensor& tokens) {
  const std::int64_t T = tokens.shape(1);
  return cross_entropy(slice(logits, 1, 0, T - 1), slice(tokens, 1, 1, T));
}

}  // namespace

WeightRun run_weights(Lab& lab, const WeightFiles& weights) {
  const ForeignModel& found = *weights.found;
  WeightRun run{.input = input_for(lab, weights), .output = {}};
  const AttentionWatch watch;
  if (found.attention) {
    const AttentionOptions rules{.causal = weights.causal};
    run.output = (*found.attention)(run.input, rules).output;
    run.layers = {watch.specimen(*found.attention, rules)};
    return run;
  }
  run.output = (*found.model)(run.input);
  if (run.input.shape(1) > 1) run.loss = next_token_loss(run.output, run.input);
  run.layers = watch.specimens(*found.model, run.loss);
  return run;
}

}  // namespace surgeon
