// One step of training, the held-out score, and checkpoints. The knobs, the tasks and what a look measures are in
// training/.
#include "experiments/training.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "framework/checkpoints.hpp"
#include "framework/probe.hpp"
#include "framework/serialize.hpp"

namespace surgeon {
namespace {

// Streams of the run's seed.
enum Stream : std::uint64_t { weights = 1, held_out_data = 2, samples = 3, data = 1ull << 32, drops = 1ull << 48 };

constexpr std::int64_t held_out_sequences = 256;

bool finite(const Tensor& x) { return x.size() == 0 || std::isfinite(max(abs(x)).item()); }

double targets_in(const Batch& batch) { return sum(batch.targets >= 0.0).item(); }

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

// Of the mean over all targets of the update; batches may ask for different numbers of them.
std::pair<double, std::vector<Tensor>> Trainer::loss_and_gradients() const {
  GradientMean mean;
  double loss_sum = 0, targets = 0, first = 0;
  for (std::int64_t part = 0; part < knobs_.accumulate; ++part) {
    const Batch batch = batch_at(done_, part);
    Rng rng(seed_, Stream::drops + std::uint64_t(done_ * knobs_.accumulate + part));
    const Tensor loss = loss_of(batch, knobs_.dropout > 0.0 ? &rng : nullptr);
    if (!std::isfinite(loss.item())) diverge("loss", loss.item(), first_bad_tensor(batch));
    const double asked = targets_in(batch);
    if (part == 0) first = asked;
    loss_sum += loss.item() * (asked / first);   // relative to the first, as GradientMean: equal counts cost no digit
    targets += asked / first;
    mean.add(grad(loss, parameters_.tensors()), asked);
  }
  return {loss_sum / targets, mean.take()};
}

Trainer::Step Trainer::step() {
  auto [loss, gradients] = loss_and_gradients();
  const double size = knobs_.clip > 0.0 ? clip_grad_norm(gradients, knobs_.clip) : grad_norm(gradients);
  if (!std::isfinite(size)) diverge("the gradient's norm", size, first_bad_gradient(gradients));
  const double lr = schedule_(done_);
  const bool skipped = knobs_.outliers > 0.0 && !guard_.accept(size);
  if (!skipped) {
    optimizer_->set_lr(lr);
    optimizer_->step(gradients);
  }
  ++done_;
  return {loss, lr, size, skipped};
}

std::string Trainer::first_bad_gradient(const std::vector<Tensor>& gradients) const {
  std::size_t i = 0;
  for (const auto& [name, parameter] : parameters_)
    if (!finite(gradients[i++])) return "the gradient of " + name;
  return "none: the norm itself overflows";
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
    const double n = targets_in(b);
    loss += cross_entropy(logits, b.targets).item() * n;
    right += sum((argmax(logits, -1) == b.targets)).item();
    asked += n;
    done += batch;
  }
  return {loss / asked, right / asked};
}

std::string Trainer::sample(std::int64_t length) const {
  NoRecord pause;
  Rng data(seed_, Stream::held_out_data), draw(seed_, Stream::samples);
  const Tensor start = task_.draw_held_out(data, 1).tokens;
  std::vector<std::int64_t> tokens{start.values<std::int64_t>()[0]};
  std::string text;
  for (std::int64_t i = 0; i < length; ++i) {
    Lab::stop_if_interrupted();
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
  try {
    require(progress.extra.contains("outliers"), "it has no extra/outliers");
    guard_.restore(progress.extra["outliers"]);
  } catch (const std::logic_error& error) {
    throw IoError(fmt::format("{}: not a checkpoint of surgeon train: {}", path.string(), error.what()));
  }
  done_ = progress.step;
}

}  // namespace surgeon
