// Training a Transformer on a task: the knobs, one step, what a run measures of itself, and its checkpoints.
// All random numbers are functions of the seed and the step, so a run that is stopped and resumed gives the same bits.
#pragma once

#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "experiments/lab.hpp"
#include "experiments/training/tasks.hpp"
#include "framework/optim.hpp"
#include "layers/specimen.hpp"
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
  MakeAttention make_attention = {};   // no option, set in code: an attention layer of one's own in every block
};

// Add all options but the task, the file and the scale, and check how they go together with before_check(): what an
// experiment adds to before_check() afterwards may build the model.
void add_model_options(Options& o, TrainKnobs& k);
void add_training_options(Options& o, TrainKnobs& k);

// All options of a run: task, --file and --scale as well.
void add_run_options(Options& o, TrainKnobs& k);

// "none", "sqrt", "inverse", "log-n", "learned" or a number; UsageError otherwise.
void set_scale(const std::string& rule, TransformerConfig& config);
Task make_task(const TrainKnobs& k);
TransformerConfig model_config(const TrainKnobs& k, const Task& task, Dtype dtype);
// With its initial weights.
Transformer make_model(const TrainKnobs& k, const Task& task, Rng& rng, Dtype dtype);

// Refuses a model that would not fit into memory (this machine's, or what ulimit -v or the control group leaves of it)
// before any of it is allocated: UsageError with the estimate.
void check_memory(const TransformerConfig& config, std::int64_t batch);

// The loss or the gradient is nan or infinite: says at which step and learning rate, and which tensor was first.
struct Diverged : std::runtime_error { using std::runtime_error::runtime_error; };

// ---- What a run measures of itself ---------------------------------------------------------------------------------
struct Sizes { double median = 0, rms = 0; };

// One head on one batch. Its gradients are those of the mean loss. grad_q: over queries, of the norm of dL/dq, a vector
// of d_k numbers for each query; grad_k and grad_v likewise. `scaling` takes the same median of the same norms, there
// divided by sqrt(d_v), the size of its upstream gradient.
struct HeadLook {
  std::int64_t layer = 0, head = 0;
  double entropy = 0;         // nats; the mean over queries that see at least two keys, as for all below
  double largest_score = -std::numeric_limits<double>::infinity();
  double logsumexp = 0;       // of the scores: the mean
  double jacobian = 0;        // ||dw/ds||: the median
  double dead_rows = 0;       // the share of queries with ||dw/ds|| < 1e-3
  Sizes grad_q = {}, grad_k = {}, grad_v = {};
};
struct WeightLook { std::string name; Sizes gradient; };    // over the elements of one parameter, of |dL/dw|
struct Look {
  std::int64_t step = 0;
  std::vector<HeadLook> heads = {};      // none of a layer whose attention is its own (TrainKnobs::make_attention)
  std::vector<WeightLook> weights = {};
};
struct WeightUpdate { std::string name; double ratio; };    // |w - w before| / |w before|

std::vector<Row> rows_of(const Look& look);
std::vector<Row> rows_of(const std::vector<WeightUpdate>& updates, std::int64_t step);

// ---- What trained heads attend to ----------------------------------------------------------------------------------
// Held-out sequences, and the weights that the heads give them.
struct Attended {
  Tensor tokens;                       // [B, T]
  std::vector<Tensor> weights = {};    // by layer: [B * heads, T, T]
};

// Where most of a head's weight lies: "itself", "the previous token", "5 tokens back", "the same token before", "what
// followed the same token", "5 after the same token", or "no one place".
struct HeadRole {
  std::int64_t layer = 0, head = 0;
  std::string place;
  double weight = 0, uniform = 0;      // mean weight on it, and what an even spread over earlier tokens would put there
};
std::vector<HeadRole> roles_of(const Attended& seen, std::int64_t heads);
Row row_of(const HeadRole& role, std::int64_t step);
std::vector<std::string> cells_of(const HeadRole& role);   // of a table: layer, head, place, weight, uniform
Heatmap map_of(const Attended& seen, const HeadRole& role, const Task& task);   // of the first sequence, 40 tokens of it
// The first tokens of a sequence as labels, in which blanks can be seen.
std::vector<std::string> words_of(const Tensor& tokens, std::int64_t sequence, std::int64_t many, const Task& task);

// What a model's attention did on held-out sequences.
struct Watched {
  Tensor tokens;                         // [B, T]
  std::vector<Specimen> layers = {};     // dO, dQ, dK and dV are those of the mean loss
};

// ---- Training ------------------------------------------------------------------------------------------------------
class Trainer {
 public:
  Trainer(const TrainKnobs& knobs, Task task, std::uint64_t seed, Dtype dtype);

  struct Step { double loss, lr, gradient_norm; bool skipped; };
  Step step();                      // one update, unless it is an outlier; Diverged leaves the weights as they were
  struct Score { double loss, accuracy; };
  Score held_out() const;           // on the same sequences each time
  std::int64_t done() const { return done_; }
  std::int64_t tokens_per_step() const { return knobs_.batch * knobs_.accumulate * task_.tokens; }

  // Looks at the next batch (at as many of its sequences as 2^24 attention weights allow). Looking changes nothing: the
  // steps that follow are the same, bit for bit.
  Look look();
  std::vector<WeightUpdate> updates() const;       // since the last look()
  Batch probe_batch(std::int64_t sequences) const;   // the same held-out sequences each time
  Watched watched(const Batch& batch) const;         // std::invalid_argument for what a specimen cannot hold
  Attended attended() const;                       // nothing seen of layers whose attention is their own
  std::string sample(std::int64_t length) const;   // text that the model writes, `length` tokens

  // Diverged, and no file, when the next batch has no finite loss: the last good checkpoint stays.
  void save(const std::filesystem::path& path, const std::string& config) const;
  void load(const std::filesystem::path& path);

  const Transformer& model() const { return model_; }
  const Task& task() const { return task_; }
  const TrainKnobs& knobs() const { return knobs_; }

 private:
  Batch batch_at(std::int64_t step, std::int64_t part) const;
  Tensor loss_of(const Batch& batch, Rng* dropout) const;
  std::pair<double, std::vector<Tensor>> loss_and_gradients() const;
  [[noreturn]] void diverge(const char* what, double value, const std::string& tensor) const;
  std::string first_bad_tensor(const Batch& batch) const;
  std::string first_bad_gradient(const std::vector<Tensor>& gradients) const;

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

// ---- What a checkpoint says of its run -----------------------------------------------------------------------------
// The options that a checkpoint keeps; the text of all of them, with the seed, the dtype, the threads and the kernels.
bool travels(const std::string& option);
std::string config_text(Options& o, std::uint64_t seed, Dtype dtype);
std::string config_text(TrainKnobs knobs, std::uint64_t seed, Dtype dtype);
std::string kernels_here();   // what decides the last bits besides the seed and the threads

struct SavedRun {
  std::filesystem::path checkpoint = {};
  std::map<std::string, std::string> options = {};   // by name, as one would type them
  std::int64_t seed = 0, threads = 1;
  Dtype dtype = Dtype::float32;
  std::string kernels = {};                          // empty in older checkpoints
};

// UsageError for what is not there, or holds values that no option may have; IoError for damaged files.
std::filesystem::path checkpoint_in(const std::string& run_or_checkpoint);   // the last one of a run
SavedRun read_saved(const std::filesystem::path& checkpoint);
void set_from(const SavedRun& saved, Options::Entry& entry);                 // leaves alone what was not saved
std::unique_ptr<Trainer> trainer_of(const SavedRun& saved);                  // as it was then

}  // namespace surgeon
