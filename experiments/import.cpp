// surgeon import FILE: the weights of another program, run here, and what its attention saw, for `surgeon inspect`.
#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "experiments/lab.hpp"
#include "framework/errors.hpp"
#include "framework/probe.hpp"
#include "framework/serialize.hpp"
#include "layers/layers.hpp"

namespace surgeon::experiments {
namespace {

struct Knobs {
  std::string file = {}, kind = "auto", input = {}, pairs = "halves";
  ForeignOptions foreign = {};
  std::int64_t tokens = 32;
  bool causal = false;
  std::optional<ForeignModel> found = {};   // read when the options are checked, before a folder is made
  Tensor given = {};                        // the input, if there is a file of it
};

Parameters load(const std::string& file) {
  for (const char* ending : {".pt", ".pth", ".bin"})
    if (file.ends_with(ending)) return load_pt(file);
  if (file.ends_with(".safetensors")) return load_safetensors(file).tensors;
  if (file.ends_with(".npz")) return load_npz(file);
  if (file.ends_with(".onnx")) return load_onnx(file);
  throw UsageError(file + ": its name must end in .pt, .pth, .bin, .safetensors, .npz or .onnx");
}

void read(Knobs& k) {
  k.foreign.rotary_pairs = k.pairs == "halves" ? RotaryPairs::halves : RotaryPairs::interleaved;
  if (k.kind != "auto")
    k.foreign.kind = k.kind == "gpt2" ? Foreign::gpt2 : k.kind == "llama" ? Foreign::llama : Foreign::attention;
  k.found = read_foreign(load(k.file), k.foreign);
  if (k.input.empty()) return;
  k.given = load_npy(k.input);
  const bool fits = k.found->model ? k.given.rank() == 2 && k.given.dtype() == Dtype::int64
                                   : k.given.rank() == 3 && k.given.shape(2) == k.found->attention->d_model;
  if (!fits)
    throw UsageError(sentence(k.input, " is ", k.given.dtype(), " ", k.given.shape(), ": must be ",
                              k.found->model ? "int64 tokens [B, T]" : "[B, T, d_model]"));
  if (k.found->attention) k.given = k.given.to(k.found->attention->W_o.weight.dtype());
}

void options(Options& o, Knobs& k) {
  o.add("file", k.file, "weights: .pt, .pth, .bin, .safetensors, .npz, .onnx", {.required = true});
  o.add("--heads", k.foreign.heads, "heads of the queries, which weights do not say",
        {.low = 1, .high = 1e4, .required = true});
  o.add("--kind", k.kind, "whose names the weights have", {.choices = {"auto", "attention", "gpt2", "llama"}});
  o.add("--prefix", k.foreign.prefix, "only weights whose names begin with this");
  o.add("--input", k.input, "a .npy file: tokens [B, T], or [B, T, d_model] for an attention layer");
  o.add("--tokens", k.tokens, "tokens of the random input, without --input", {.low = 2, .high = 1e5});
  o.add("--causal", k.causal, "mask the future in an attention layer; models do it anyway");
  o.add("--rotary-base", k.foreign.rotary_base, "llama: the base of the rotary positions", {.low = 1});
  o.add("--rotary-pairs", k.pairs, "llama: the numbers that are rotated together",
        {.choices = {"halves", "interleaved"}});
  o.add("--norm-eps", k.foreign.norm_eps, "epsilon of the norms; 0: 1e-5 for gpt2, 1e-6 for llama",
        {.low = 0, .high = 1});
  o.add("--context", k.foreign.context, "llama: the longest sequence", {.low = 1, .high = 1e7});
  o.before_check([&k] { read(k); });
}

// ---- What became of their tensors ----------------------------------------------------------------------------------

// The first block stands for all, without what its names begin with; metrics.csv has every tensor.
void show_table(Lab& lab, const ForeignModel& found) {
  const std::string first = "blocks.0.";
  Table whole{found.model ? "Outside of the blocks" : "Their tensors under our names", {"theirs", "how", "ours"}, {}};
  Table block{"", whole.header, {}};
  std::map<std::string, std::pair<std::size_t, std::int64_t>> unused;   // why -> its row, how many
  for (const auto& [theirs, shape, how, ours] : found.table) {
    lab.row({{"theirs", theirs}, {"shape", to_string(shape)}, {"how", how}, {"ours", ours}});
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

// ---- What the attention saw ----------------------------------------------------------------------------------------

Tensor input_for(Lab& lab, const Knobs& k, const ForeignModel& found) {
  if (k.given.defined()) return k.given;
  Rng rng = lab.rng();
  if (found.attention) {
    lab.say(fmt::format("No --input: {} tokens drawn from N(0,1).", k.tokens));
    return randn({1, k.tokens, found.attention->d_model}, rng, found.attention->W_o.weight.dtype());
  }
  const std::int64_t T = std::min(k.tokens, found.model->config.context);
  const std::int64_t vocabulary = found.model->config.vocabulary;
  lab.say(fmt::format("No --input: {} tokens drawn at random from the vocabulary of {}.", T, vocabulary));
  return randint(0, vocabulary, {1, T}, rng);
}

// What passes inside each attention. Watching more would keep the weights, and take derivatives that nobody reads.
struct Watch { Probe Q{"*Q"}, K{"*K"}, V{"*V"}, heads{"*heads"}; };

// Q, K, V as they enter attention, its output and, with a loss, the upstream gradient, of each layer.
Parameters specimens(const Watch& watch, const Tensor& loss, const MultiHeadAttention& layer) {
  std::vector<Probe::Named> upstream;
  if (loss.defined()) upstream = watch.heads.gradients(loss);
  const NoRecord pause;
  const auto turned = [&](const Tensor& x) {
    return layer.rotary_base == 0 ? x
                                  : rotary(x, {.base = layer.rotary_base, .pairs = layer.rotary_pairs,
                                               .width = layer.rotary_width});
  };
  Parameters found;
  for (std::size_t i = 0; i < watch.heads.seen().size(); ++i) {
    const auto& [name, output] = watch.heads.seen()[i];
    const auto at = name.rfind("attention.");
    const std::string where = at == std::string::npos ? "" : name.substr(0, at);
    found.add(where + "Q", turned(heads_apart(watch.Q.seen()[i].second, layer.num_heads)));
    found.add(where + "K", turned(heads_apart(watch.K.seen()[i].second, layer.kv_heads)));
    found.add(where + "V", heads_apart(watch.V.seen()[i].second, layer.kv_heads));
    found.add(where + "output", heads_apart(output, layer.num_heads));
    if (loss.defined()) found.add(where + "dO", heads_apart(upstream[i].second, layer.num_heads));
  }
  return found;
}

// The mean cross-entropy of each token after those before it.
Tensor next_token_loss(const Tensor& logits, const Tensor& tokens) {
  const std::int64_t T = tokens.shape(1);
  return cross_entropy(slice(logits, 1, 0, T - 1), slice(tokens, 1, 1, T));
}

void run(Lab& lab, const Knobs& k) {
  const ForeignModel& found = *k.found;
  show_table(lab, found);
  const Tensor input = input_for(lab, k, found);
  const Watch watch;
  Tensor output, loss;
  if (found.model) {
    output = (*found.model)(input);
    if (input.shape(1) > 1) {
      loss = next_token_loss(output, input);
      lab.result("next_token_loss", loss.item());
    }
  } else {
    output = (*found.attention)(input, {.causal = k.causal}).output;
  }
  const MultiHeadAttention& layer = found.model ? found.model->blocks[0].attention : *found.attention;
  save_npy(lab.file("output.npy"), output);
  save_safetensors(lab.file("attention.safetensors"), specimens(watch, loss, layer), {{"layout", "BHTd"}});
  save_safetensors(lab.file("weights.safetensors"), found.model ? found.model->parameters() : layer.parameters());
  lab.result("parameters", found.model ? found.model->parameters().count() : layer.parameters().count());
  lab.say("The output is in output.npy, the weights under our names in weights.safetensors. Where the gradient goes:");
  lab.print(fmt::format("  surgeon inspect {}{}\n", lab.file("attention.safetensors").string(),
                        found.model || k.causal ? " --causal" : ""));
  const auto guessing = [&] { return std::log(double(found.model->config.vocabulary)); };
  lab.verdict(loss.defined() ? fmt::format("The model reads its input with a loss of {} nats per token (guessing: {}).",
                                           number(loss.item()), number(guessing()))
                             : fmt::format("The layer has {} heads of {} numbers.", layer.num_heads, layer.d_k));
}

}  // namespace

Experiment import_weights() {
  return {"import",
          "What does the attention of a model trained elsewhere see?",
          "Reads the weights of nn.MultiheadAttention, or of a model with the names of GPT-2 or Llama, shows what "
          "becomes of each tensor, and runs them on your input. Leaves the output, the weights under our names, and Q, K, V, "
          "output and upstream gradient of every attention, for `surgeon inspect`. No code in a .pt file is run.",
          {"surgeon import model.pt --heads 4", "surgeon import model.pt --heads 4 --input tokens.npy"},
          knobs<Knobs>(options, run),
          false};
}

}  // namespace surgeon::experiments
