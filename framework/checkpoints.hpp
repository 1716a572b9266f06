// A training run in one file: its weights, its optimizer, its random numbers, and how far it has come.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "framework/errors.hpp"
#include "framework/optim.hpp"
#include "framework/parameters.hpp"
#include "framework/random.hpp"

namespace surgeon {

// How far a run has come, besides its weights and its optimizer.
struct Progress {
  std::int64_t step = 0;                  // number of updates done
  std::int64_t cursor = 0;                // place in the data, in the caller's own units
  std::map<std::string, Rng> generators = {};
  std::string config = {};                // text of the caller's: what the run was asked to do
  Parameters extra = {};                  // whatever else must be restored (an OutlierGuard's state, the best loss)
};

// One safetensors file: the weights under their own names, the rest under "optimizer/..." and "extra/..." and in the
// metadata. A run that saves, stops, loads and continues gives the same numbers as one that never stopped.
void save_checkpoint(const std::filesystem::path& path, const Parameters& parameters, const Optimizer& optimizer,
                     const Progress& progress);
// Restores the weights and the optimizer, all or nothing: IoError when the file is damaged, is not a checkpoint, or
// does not fit them.
Progress load_checkpoint(const std::filesystem::path& path, const Parameters& parameters, Optimizer& optimizer);
// Restores only the weights, from a checkpoint or from any safetensors file.
void load_weights(const std::filesystem::path& path, const Parameters& parameters);
// Reads the config alone, to build the model that a checkpoint belongs to.
std::string checkpoint_config(const std::filesystem::path& path);

}  // namespace surgeon
