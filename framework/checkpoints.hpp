// A run in a file: its weights, its optimizer, its random numbers and where it stands.
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

// Where a run stands, besides its weights and its optimizer.
struct Progress {
  std::int64_t step = 0;                  // updates done
  std::int64_t cursor = 0;                // where the data stand, in the caller's own units
  std::map<std::string, Rng> generators = {};
  std::string config = {};                // the caller's text: what the run was asked to do
  Parameters extra = {};                  // whatever else must come back (an OutlierGuard's state, a best loss)
};

// One safetensors file: the weights under their own names, the rest under "optimizer/..." and "extra/..." and in the
// metadata. A run that saves, stops, loads and goes on makes the same numbers as one that never stopped.
void save_checkpoint(const std::filesystem::path& path, const Parameters& parameters, const Optimizer& optimizer,
                     const Progress& progress);
// Gives the weights and the optimizer back, all or nothing: IoError when the file is damaged, is no checkpoint, or does
// not fit them.
Progress load_checkpoint(const std::filesystem::path& path, const Parameters& parameters, Optimizer& optimizer);
// Only the weights of a checkpoint, or of any safetensors file.
void load_weights(const std::filesystem::path& path, const Parameters& parameters);
// The config alone, to build the model that a checkpoint belongs to.
std::string checkpoint_config(const std::filesystem::path& path);

}  // namespace surgeon
