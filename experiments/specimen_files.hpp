// Somebody's attention in files: tensors, weights with an input, or a run of ours, into specimens; and the options that
// say what is what.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "experiments/lab.hpp"
#include "experiments/weight_files.hpp"
#include "layers/specimen.hpp"

namespace surgeon {

// What lies on the table.
struct Subject {
  std::vector<Specimen> layers = {};
  std::vector<std::vector<std::string>> words = {};   // of each sequence, a label for each token; none if empty
  std::string about = {};                             // where it comes from, in a sentence; may be empty
};

struct SpecimenFiles {
  bool may_be_missing = false;             // the experiment has something to do without any of them
  std::string file = {};                   // of tensors or weights, or a run; may be empty
  std::vector<std::string> tensors = {};   // NAME=FILE.npy, or NAME=name of a tensor in the file
  std::string layout = "auto";             // of tensors with four axes
  std::int64_t heads = 0, kv_heads = 0;    // in tensors with three axes, side by side in the last; 0: one; as many
  std::string scale = "d_k";
  bool causal = false;
  std::int64_t window = 0;
  double soft_cap = 0;
  WeightFiles weights = {};

  // Known when the options are checked, before there is a run folder.
  std::int64_t sequences = 0, keys = 0;    // the fewest and those of the first layer
  std::filesystem::path checkpoint = {};   // of a run
  std::vector<std::string> ignored = {};   // a sentence for each tensor that is not used
  std::function<Subject(Lab&)> subject = {};   // runs the model, if there is one
};

// Checking them reads the files. UsageError for what the options would have to say; IoError for files that cannot be
// read; std::invalid_argument for tensors that do not fit together.
void add_options(Options& options, SpecimenFiles& files);

// The files' subject, which it tells, and what is not used of them; empty without files.
Subject opened(Lab& lab, const SpecimenFiles& files);
std::string shown_name(const Specimen& layer);
// UsageError when the files have no such sequence; nothing is refused without files.
void check_sequence(const SpecimenFiles& files, std::int64_t sequence);

// For experiments that go without a file: heads from N(0,1), the same with and without 1/sqrt(d_k).
struct RandomHeads {
  std::int64_t d_k = 64, tokens = 10, draws = 200, sequence = 0;
};
void add_random_options(Options& options, RandomHeads& random, SpecimenFiles& files);   // --sequence is of the files
// The files' subject or the random one, which it tells; with dO from N(0,1) where there is none.
Subject with_upstream(Lab& lab, const SpecimenFiles& files, const RandomHeads& random);

}  // namespace surgeon
