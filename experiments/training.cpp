// One step, what a run measures of itself, and its checkpoints; the knobs are in training_knobs.cpp.
#include "experiments/training.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "framework/checkpoints.hpp"
#include "framework/diagnostics.hpp"
#include "framework/probe.hpp"
#include "framework/serialize.hpp"

namespace surgeon {
namespace {

// Streams of the run's seed.
enum Stream : std::uint64_t { weights = 1, held_out_data = 2, samples = 3, data = 1ull << 32, drops = 1ull << 48 };

constexpr std::int64_t held_out_sequences = 256;
constexpr std::int64_t most_weights = 1 << 24;   // of one block, in a look

bool finite(const Tensor& x) { return x.size() == 0 || std::isfinite(max(abs(x)).item()); }

Schedule schedule_of(const TrainKnobs& k) {
  if (k.schedule == "constant") return schedule::constant(k.lr);
  if (k.schedule == "warmup") return schedule::linear_warmup(k.lr, std::max<std::int64_t>(k.warmup, 1), 0.01);
  if (k.schedule == "cosine") return schedule::cosine(k.lr, k.steps);
  if (k.schedule == "step") return schedule::step(k.lr, std::max<std::int64_t>(k.steps / 3, 1));
  if (k.schedule == "exponential") return schedule::exponential(k.lr, std::pow(0.01, 1.0 / double(k.steps)));
  return schedule::warmup_cosine(k.lr, std::min(k.warmup, k.steps - 1), k.steps, 0.1 * k.lr);
}

std::unique_ptr<Optimizer> optimizer_of(const TrainKnobs& k, const Parameters& parameters) {
  const std::vector<Group> groups{no_decay_on_vectors()};
  if (k.optimizer == "sgd")
    return std::make_unique<Sgd>(
        parameters, SgdOptions{.lr = k.lr, .momentum = k.momentum, .weight_decay = k.weight_decay}, groups);
  if (k.optimizer == "adam")
    return std::make_unique<Adam>(parameters, AdamOptions{.lr = k.lr, .weight_decay = k.weight_decay}, groups);
  return std::make_unique<AdamW>(parameters, AdamWOptions{.lr = k.lr, .weight_decay = k.weight_decay}, groups);
}

Transformer initial_model(const TrainKnobs& k, const Task& task, std::uint64_t seed, Dtype dtype) {
  Rng rng(seed, Stream::weights);
  return make_model(k, task, rng, dtype);
}

double median(std::vector<double> values) {
  if (values.empty()) return std::nan("");
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double root_mean_square(const std::vector<double>& values) {
  double sum = 0;
  for (const double x : values) sum += x * x;
  return std::sqrt(sum / double(values.size()));
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double x : values) sum += x;
  return sum / double(values.size());
}

}  // namespace

// ---- Training ------------------------------------------------------------------------------------------------------
Trainer::Trainer(const TrainKnobs& knobs, Task task, std::uint64_t seed, Dtype dtype)
    : knobs_(knobs), task_(std::move(task)), seed_(seed), model_(initial_model(knobs_, task_, seed_, dtype)),
      parameters_(model_.parameters()), optimizer_(optimizer_of(knobs_, parameters_)), schedule_(schedule_of(knobs_)),
      guard_({.factor = knobs_.outliers > 0.0 ? knobs_.outliers : 10.0}) {}

Batch Trainer::batch_at(std::int64_t step, std::int64_t part) const {
  const std::int64_t number = knobs_.overfit_one_batch ? part : step * knobs_.accumulate + part;
  Rng rng(seed_, Stream::data + std::uint64_t(number));
  return task_.draw(rng, knobs_.batch);
}

Tensor Trainer::loss_of(const Batch& batch, Rng* dropout) const {
  return cross_entropy(model_(batch.tokens, {.rng = dropout}), batch.targets);
}

Trainer::Step Trainer::step() {
  GradientMean mean;
  double loss_sum = 0;
  for (std::int64_t part = 0; part < knobs_.accumulate; ++part) {
    const Batch batch = batch_at(done_, part);
    Rng rng(seed_, Stream::drops + std::uint64_t(done_ * knobs_.accumulate + part));
    const Tensor loss = loss_of(batch, knobs_.dropout > 0.0 ? &rng : nullptr);
    if (!std::isfinite(loss.item())) diverge("loss", loss.item(), first_bad_tensor(batch));
    loss_sum += loss.item();
    mean.add(grad(loss, parameters_.tensors()));
  }
  std::vector<Tensor> gradients = mean.take();
  const double size = knobs_.clip > 0.0 ? clip_grad_norm(gradients, knobs_.clip) : grad_norm(gradients);
  if (!std::isfinite(size)) {
    std::size_t i = 0;
    for (const auto& [name, parameter] : parameters_)
      if (!finite(gradients[i++])) diverge("the gradient's norm", size, "the gradient of " + name);
    diverge("the gradient's norm", size, "none: the norm itself is too large");
  }
  const double lr = schedule_(done_);
  const bool skipped = knobs_.outliers > 0.0 && !guard_.accept(size);
  if (!skipped) {
    optimizer_->set_lr(lr);
    optimizer_->step(gradients);
  }
  ++done_;
  return {loss_sum / double(knobs_.accumulate), lr, size, skipped};
}

std::string Trainer::first_bad_tensor(const Batch& batch) const {
  for (const auto& [name, parameter] : parameters_)
    if (!finite(parameter)) return name;
  NoRecord pause;
  Probe all;
  model_(batch.tokens);
  for (const auto& [name, value] : all.seen()) {
    const bool scores = name.ends_with("scores");   // -inf there is what is masked
    if (!finite(scores ? masked_fill(value, value < 0.0, 0.0) : value)) return name;
  }
  return "the loss itself";
}

void Trainer::diverge(const char* what, double value, const std::string& tensor) const {
  throw Diverged(fmt::format("step {}: {} is {} at learning rate {:.3g}; the first bad tensor is {}", done_, what,
                             std::isnan(value) ? "nan" : number(value), schedule_(done_), tensor));
}

Trainer::Score Trainer::held_out() const {
  NoRecord pause;
  Rng rng(seed_, Stream::held_out_data);
  double loss = 0, right = 0, asked = 0;
  for (std::int64_t done = 0; done < held_out_sequences;) {
    const std::int64_t batch = std::min(knobs_.batch, held_out_sequences - done);
    const Batch b = task_.draw_held_out(rng, batch);
    const Tensor logits = model_(b.tokens);
    const double n = double(sum(b.targets >= 0.0).item());
    loss += cross_entropy(logits, b.targets).item() * n;
    right += sum((argmax(logits, -1) == b.targets)).item();
    asked += n;
    done += batch;
  }
  return {loss / asked, right / asked};
}

// ---- Looking -------------------------------------------------------------------------------------------------------
namespace {

// A row's norms of x [B, T, heads * d], for one head.
std::vector<double> head_norms(const Tensor& x, std::int64_t heads, std::int64_t head) {
  const std::vector<double> all = row_norms(reshape(x, {x.shape(0) * x.shape(1) * heads, x.shape(2) / heads}));
  std::vector<double> own;
  for (std::size_t i = std::size_t(head); i < all.size(); i += std::size_t(heads)) own.push_back(all[i]);
  return own;
}

// The norm of each row's Jacobian, dw/ds.
std::vector<double> jacobian_norms(const Tensor& w, const std::string& weighting) {
  if (weighting == "sigmoid") return row_norms(w * (1.0 - w));
  if (weighting == "softmax") return softmax_jacobian_norm(w);
  return softmax_jacobian_norm(concat({w, 1.0 - sum(w, Over{{-1}, true})}, -1));   // with the key "nothing"
}

// Rows that see one key alone have no choice: they count for nothing.
Row attention_row(const Tensor& scores, const Tensor& weights, const std::string& weighting, std::int64_t heads,
                  std::int64_t head) {
  const Tensor seen = (scores > -std::numeric_limits<double>::infinity()).to(Dtype::int64);
  const Tensor choices = sum(seen, -1);
  const std::vector<double> entropies = entropy(weights), jacobians = jacobian_norms(weights, weighting);
  const Tensor highest = max(scores, -1).to(Dtype::float64);
  const std::int64_t T = scores.shape(-2);
  std::vector<double> own, norms;
  double top = -std::numeric_limits<double>::infinity();
  for (std::int64_t i = 0; i < choices.size(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (i / T % heads != head || choices.values<std::int64_t>()[at] < 2) continue;
    own.push_back(entropies[at]);
    norms.push_back(jacobians[at]);
    top = std::max(top, highest.values<double>()[at]);
  }
  return {{"entropy", mean_of(own)}, {"largest_score", top}, {"dead_rows", share_below(norms, 1e-3)}};
}

}  // namespace

std::vector<Row> Trainer::look() {
  before_.clear();
  for (const Tensor& parameter : parameters_.tensors()) before_.push_back(parameter.detach());
  Probe seen("blocks.*.attention.*");
  const std::int64_t weights = knobs_.heads * task_.tokens * task_.tokens;
  const std::int64_t most = std::max<std::int64_t>(most_weights / weights, 1);
  const Batch batch = batch_at(done_, 0);
  const Tensor loss = loss_of({slice(batch.tokens, 0, 0, most), slice(batch.targets, 0, 0, most)}, nullptr);
  std::vector<Tensor> asked = parameters_.tensors();
  const std::size_t parameters = asked.size();
  for (std::int64_t layer = 0; layer < knobs_.layers; ++layer)
    for (const char* name : {"Q", "K", "V"}) asked.push_back(seen[fmt::format("blocks.{}.attention.{}", layer, name)]);
  const std::vector<Tensor> gradients = grad(loss, asked);

  std::vector<Row> rows;
  const std::int64_t kv_heads = knobs_.kv_heads > 0 ? knobs_.kv_heads : knobs_.heads;
  for (std::int64_t layer = 0; layer < knobs_.layers; ++layer) {
    const auto& value = [&](const char* name) { return seen[fmt::format("blocks.{}.attention.{}", layer, name)]; };
    for (std::int64_t head = 0; head < knobs_.heads; ++head) {
      Row row{{"kind", "head"}, {"step", done_}, {"layer", layer}, {"head", head}};
      row = row + attention_row(value("scores"), value("weights"), knobs_.weighting, knobs_.heads, head);
      for (std::size_t i = 0; i < 3; ++i) {
        const std::int64_t heads = i == 0 ? knobs_.heads : kv_heads;
        const std::vector<double> norms =
            head_norms(gradients[parameters + std::size_t(3 * layer) + i], heads, head * heads / knobs_.heads);
        const std::string name = i == 0 ? "grad_q" : i == 1 ? "grad_k" : "grad_v";
        row.emplace_back(name + "_median", median(norms));
        row.emplace_back(name + "_rms", root_mean_square(norms));
      }
      rows.push_back(std::move(row));
    }
  }
  std::size_t i = 0;
  for (const auto& [name, parameter] : parameters_) {
    const Tensor sizes = abs(gradients[i++]).to(Dtype::float64);
    const std::vector<double> values(sizes.values<double>().begin(), sizes.values<double>().end());
    rows.push_back({{"kind", "gradient"}, {"step", done_}, {"parameter", name}, {"grad_median", median(values)},
                    {"grad_rms", root_mean_square(values)}});
  }
  return rows;
}

std::vector<Row> Trainer::updates() const {
  NoRecord pause;
  std::vector<Row> rows;
  std::size_t i = 0;
  for (const auto& [name, parameter] : parameters_) {
    const Tensor& before = before_[i++];
    rows.push_back({{"kind", "update"}, {"step", done_}, {"parameter", name},
                    {"update_ratio", norm(parameter - before) / norm(before)}});
  }
  return rows;
}

std::string Trainer::sample(std::int64_t length) const {
  NoRecord pause;
  Rng data(seed_, Stream::held_out_data), draw(seed_, Stream::samples);
  const Tensor start = task_.draw_held_out(data, 1).tokens;
  std::vector<std::int64_t> tokens{start.values<std::int64_t>()[0]};
  std::string text;
  for (std::int64_t i = 0; i < length; ++i) {
    const std::int64_t T = std::min(std::ssize(tokens), std::ptrdiff_t(task_.tokens));
    const std::vector<std::int64_t> last(tokens.end() - T, tokens.end());
    const Tensor logits = slice(model_(tensor(last, {1, T})), 1, T - 1);
    const Tensor chances = softmax(reshape(logits, {task_.vocabulary}).to(Dtype::float64), -1);
    double left = draw.uniform();
    std::int64_t token = 0;
    while (token + 1 < task_.vocabulary && (left -= chances.values<double>()[std::size_t(token)]) >= 0) ++token;
    tokens.push_back(token);
    text += task_.show(token);
  }
  return text;
}

// ---- Checkpoints ---------------------------------------------------------------------------------------------------
void Trainer::save(const std::filesystem::path& path, const std::string& config) const {
  NoRecord pause;
  const Batch next = batch_at(done_, 0);
  const double loss = loss_of(next, nullptr).item();   // weights that cannot go on would replace some that can
  if (!std::isfinite(loss)) diverge("loss", loss, first_bad_tensor(next));
  const Parameters extra{{"outliers", guard_.state()}};
  save_checkpoint(path, parameters_, *optimizer_,
                  {.step = done_, .cursor = done_, .config = config, .extra = extra});
}

void Trainer::load(const std::filesystem::path& path) {
  const Progress progress = load_checkpoint(path, parameters_, *optimizer_);
  guard_.restore(progress.extra["outliers"]);
  done_ = progress.step;
}

}  // namespace surgeon
