// The weights of another program in a file, the model made of them, and what its attention does with an input.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "experiments/lab.hpp"
#include "layers/foreign_weights.hpp"
#include "layers/specimen.hpp"

namespace surgeon {

struct WeightFiles {
  std::string kind = "auto", input = {}, pairs = "halves";
  ForeignOptions foreign = {};   // heads must be set
  std::int64_t length = 32;      // tokens of the random input, where there is none
  bool causal = false;           // of an attention layer; models are causal anyway

  // Read when the options are checked, before there is a run folder.
  std::optional<ForeignModel> found = {};
  Tensor given = {};             // the input, if there is a file of it
};

// All but the file, the heads and causal, which others call their own.
void add_weight_options(Options& o, WeightFiles& weights);
// The tensors of a .pt, .pth, .bin, .safetensors, .npz or .onnx file. UsageError for other names.
Parameters load_weight_file(const std::string& file);
// A .npy file of token ids [B, T]; UsageError for others.
struct TokenLimits { std::int64_t fewest, most, vocabulary; };
Tensor load_tokens(const std::string& file, const TokenLimits& limits);
// Makes the model and reads the input. std::invalid_argument and UsageError when something does not fit.
void understand(WeightFiles& weights, const Parameters& theirs);

// What becomes of their tensors. The first block stands for all.
void show_table(Lab& lab, const ForeignModel& found);

struct WeightRun {
  Tensor input, output;
  Tensor loss = {};                       // of each token after those before it; empty for an attention layer
  std::vector<Specimen> layers = {};      // with a loss, with its gradients
};
std::int64_t length_of_random_input(const WeightFiles& weights);   // no longer than the model's context
WeightRun run_weights(Lab& lab, const WeightFiles& weights);

}  // namespace surgeon
