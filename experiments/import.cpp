// surgeon import FILE: the weights of another program, run here, and what its attention saw, for `surgeon inspect`.
#include <cmath>

#include <fmt/format.h>

#include "experiments/weight_files.hpp"
#include "framework/serialize.hpp"

namespace surgeon::experiments {
namespace {

struct Knobs {
  std::string file = {};
  WeightFiles weights = {};
};

void options(Options& o, Knobs& k) {
  o.add("file", k.file, "weights: .pt, .pth, .bin, .safetensors, .npz, .onnx", {.required = true});
  o.add("--heads", k.weights.foreign.heads, "heads of the queries, which weights do not say",
        {.low = 1, .high = 1e4, .required = true});
  o.add("--causal", k.weights.causal, "mask the future in an attention layer; models do it anyway");
  add_weight_options(o, k.weights);
  o.before_check([&k] { understand(k.weights, load_weight_file(k.file)); });
}

// Each tensor of each layer as "blocks.0.Q"; of a single layer as "Q".
Parameters tensors_of(const std::vector<Specimen>& layers) {
  Parameters all;
  for (const Specimen& s : layers)
    for (const auto& [name, x] : {std::pair{"Q", &s.Q}, {"K", &s.K}, {"V", &s.V}, {"X", &s.X}, {"output", &s.output},
                                  {"dO", &s.dO}, {"dQ", &s.dQ}, {"dK", &s.dK}, {"dV", &s.dV}})
      if (x->defined()) all.add((s.name.empty() ? "" : s.name + ".") + name, *x);
  return all;
}

void run(Lab& lab, const Knobs& k) {
  const ForeignModel& found = *k.weights.found;
  show_table(lab, found);
  for (const auto& [theirs, shape, how, ours] : found.table)
    lab.row({{"theirs", theirs}, {"shape", to_string(shape)}, {"how", how}, {"ours", ours}});
  const WeightRun seen = run_weights(lab, k.weights);
  if (seen.loss.defined()) lab.result("next_token_loss", seen.loss.item());
  const bool causal = found.model || k.weights.causal;
  const Parameters ours = found.model ? found.model->parameters() : found.attention->parameters();
  save_npy(lab.file("output.npy"), seen.output);
  save_safetensors(lab.file("attention.safetensors"), tensors_of(seen.layers),
                   {{"layout", "BHTd"}, {"causal", causal ? "true" : "false"}});
  save_safetensors(lab.file("weights.safetensors"), ours);
  lab.result("parameters", ours.count());
  lab.say("The output is in output.npy, the weights under our names in weights.safetensors. Where the gradient goes:");
  lab.print(fmt::format("  {}\n", lab.command("inspect", lab.file("attention.safetensors"))));
  const auto guessing = [&] { return std::log(double(found.model->config.vocabulary)); };
  const Specimen& first = seen.layers[0];
  lab.verdict(seen.loss.defined()
                  ? fmt::format("The model reads its input with a loss of {} nats per token (guessing: {}).",
                                number(seen.loss.item()), number(guessing()))
                  : fmt::format("The layer has {} heads of {} numbers.", first.heads(), first.Q.shape(3)));
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
