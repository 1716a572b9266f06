// Somebody else's attention in files: .npy, .npz and safetensors into Specimens, and the options that say what is what.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/lab.hpp"
#include "layers/specimen.hpp"

namespace surgeon {

struct SpecimenFiles {
  std::string file = {};   // .npz or .safetensors, with tensors of the names below; may be empty
  std::vector<std::string> tensors = {};   // NAME=FILE.npy, or NAME=name of a tensor in the file
  std::string layout = "auto";   // of tensors with four axes
  std::int64_t heads = 1, kv_heads = 0;   // in tensors with three axes, side by side in the last; kv_heads 0: heads
  std::string scale = "d_k";
  bool causal = false;
  std::int64_t window = 0;
  double soft_cap = 0;

  // Read when the options are checked, before there is a run folder: one for each layer, "NAME" or "LAYER.NAME" for
  // several; and a sentence for each tensor that is not used.
  std::vector<Specimen> specimens = {};
  std::vector<std::string> ignored = {};
};

// Checking them reads the files. UsageError for what the options would have to say; IoError for files that cannot be
// read; std::invalid_argument for tensors that do not fit together.
void add_options(Options& options, SpecimenFiles& files);

}  // namespace surgeon
