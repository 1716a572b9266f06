// Training a Transformer on a task: the knobs, one step, what a run measures of itself, and its checkpoints.
// What is random is a function of the seed and the step, so a run that stops and goes on makes the same bits.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "experiments/lab.hpp"
#include "experiments/training/tasks.hpp"
#include "framework/optim.hpp"
#include "layers/transformer.hpp"

namespace surgeon {

struct TrainKnobs {
  std::string task = "copy", file = {};
  std::int64_t tokens = 32, symbols = 0;
  std::int64_t layers = 2, heads = 4, kv_heads = 0, d_model = 64, hidden = 0;
  std::string positions = "learned", norm = "layer", norm_place = "pre", activation = "gelu", init = "gpt2";
  bool untied = false;
  double dropout = 0.0;
  std::string scale = "sqrt", qk_norm = "none", weighting = "softmax";
  double soft_cap = 0.0;
  std::int64_t window = 0;
  std::string optimizer = "adamw", schedule = "warmup";
  double lr = 1e-3, weight_decay = 0.01, momentum = 0.9, clip = 1.0, outliers = 0.0;
  std::int64_t warmup = 100, steps = 600, batch = 64, accumulate = 1;
  bool overfit_one_batch = false;
};

// Adds them all but the task, which is given by position, and the file.
void add_model_options(Options& o, TrainKnobs& k);
void add_training_options(Options& o, TrainKnobs& k);

// "none", "sqrt", "inverse", "log-n", "learned" or a number; UsageError otherwise.
void set_scale(const std::string& rule, TransformerConfig& config);
TransformerConfig model_config(const TrainKnobs& k, const Task& task, Dtype dtype);
// With the weights it starts from.
Transformer make_model(const TrainKnobs& k, const Task& task, Rng& rng, Dtype dtype);

// Refuses, before anything is allocated, what would not fit into this machine's memory. UsageError with the estimate.
void check_memory(const TransformerConfig& config, std::int64_t batch);

// A loss that is no number, with the step, the learning rate and the first tensor that went wrong.
struct Diverged : std::runtime_error { using std::runtime_error::runtime_error; };

class Trainer {
 public:
  Trainer(const TrainKnobs& knobs, Task task, std::uint64_t seed, Dtype dtype);

  struct Step { double loss, lr, gradient_norm; bool skipped; };
  Step step();                      // one update, unless it is an outlier; Diverged leaves the weights as they were
  struct Score { double loss, accuracy; };
  Score held_out() const;           // on the same sequences each time
  std::int64_t done() const { return done_; }
  std::int64_t tokens_per_step() const { return knobs_.batch * knobs_.accumulate * task_.tokens; }

  // What attention does on the next batch (on as many of its sequences as 2^24 weights allow), and what its gradients
  // are: a row for each head and each parameter. The steps that follow are the same whether one looked or not.
  std::vector<Row> look();
  std::vector<Row> updates() const;   // |w - w before| / |w before| of each parameter, since the last look()
  std::string sample(std::int64_t length) const;   // what the model writes

  // Diverged when the next batch has no finite loss: the last good checkpoint stays.
  void save(const std::filesystem::path& path, const std::string& config) const;
  void load(const std::filesystem::path& path);

  const Transformer& model() const { return model_; }
  const Task& task() const { return task_; }

 private:
  Batch batch_at(std::int64_t step, std::int64_t part) const;
  Tensor loss_of(const Batch& batch, Rng* dropout) const;
  [[noreturn]] void diverge(const char* what, double value, const std::string& tensor) const;
  std::string first_bad_tensor(const Batch& batch) const;

  TrainKnobs knobs_;
  Task task_;
  std::uint64_t seed_;
  Transformer model_;
  Parameters parameters_;
  std::unique_ptr<Optimizer> optimizer_;
  Schedule schedule_;
  OutlierGuard guard_;
  std::int64_t done_ = 0;
  std::vector<Tensor> before_;      // the weights when look() was called
};

}  // namespace surgeon
