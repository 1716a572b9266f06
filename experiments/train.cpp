// surgeon train: a Transformer learns a task, shows what its attention does meanwhile, and can be stopped and resumed.
#include <chrono>
#include <cmath>
#include <deque>
#include <map>
#include <optional>
#include <sstream>

#include <fmt/format.h>

#include "experiments/figures.hpp"
#include "experiments/lab.hpp"
#include "experiments/training.hpp"
#include "framework/checkpoints.hpp"
#include "framework/machine.hpp"
#include "framework/serialize.hpp"

namespace surgeon::experiments {
namespace {

namespace fs = std::filesystem;

struct Knobs : TrainKnobs {
  std::int64_t log_every = 10, look_every = 100, validate_every = 50, checkpoint_every = 200, keep = 3, stop_after = 0;
  std::int64_t sample_length = 300;
  std::string resume = {};
};

void add_options(Options& o, Knobs& k) {
  o.add("task", k.task, "what is learnt", {.choices = task_names(), .required = true});
  o.add("--file", k.file, "the text of the task text; default: the King James Bible");
  add_model_options(o, k);
  o.add("--scale", k.scale, "of the scores: none, sqrt, inverse, log-n, learned, or a number");
  add_training_options(o, k);
  o.add("--log-every", k.log_every, "steps between two rows of loss", {.low = 1});
  o.add("--look-every", k.look_every, "steps between two looks at each head and weight; 0: none", {.low = 0});
  o.add("--validate-every", k.validate_every, "steps between two validations", {.low = 1});
  o.add("--checkpoint-every", k.checkpoint_every, "steps between two checkpoints", {.low = 1});
  o.add("--keep", k.keep, "of these, how many of the last stay", {.low = 1});
  o.add("--sample-length", k.sample_length, "characters that a text model writes at the end", {.low = 0, .high = 1e6});
  o.add("--stop-after", k.stop_after, "end early after this step, as Ctrl-C would; 0: do not", {.low = 0});
  o.add("--resume", k.resume, "a run folder or a checkpoint: go on from there, with its options but for those given");
}

// ---- Options in a checkpoint: one "name=value" a line --------------------------------------------------------------
// What a run is told anew each time.
bool travels(const std::string& name) { return name != "--resume" && name != "--stop-after"; }

std::string config_text(Options& o, std::uint64_t seed, Dtype dtype) {
  std::string text = fmt::format("seed={}\ndtype={}\nthreads={}\n", seed, to_string(dtype), threads());
  for (const Options::Entry& e : o.entries())
    if (travels(e.name)) text += e.name + "=" + e.text() + "\n";
  return text;
}

std::map<std::string, std::string> read_config(const fs::path& checkpoint) {
  std::map<std::string, std::string> config;
  std::istringstream lines(checkpoint_config(checkpoint));
  for (std::string line; std::getline(lines, line);) {
    const std::size_t at = line.find('=');
    if (at != std::string::npos) config[line.substr(0, at)] = line.substr(at + 1);
  }
  for (const char* name : {"seed", "dtype", "threads", "task"})
    if (!config.contains(name))
      throw UsageError(fmt::format("--resume: {} is no checkpoint of surgeon train", checkpoint.string()));
  return config;
}

fs::path checkpoint_of(const std::string& asked) {
  if (!fs::exists(asked)) throw UsageError(fmt::format("--resume: there is no {}", asked));
  if (!fs::is_directory(asked)) return asked;
  const fs::path last = fs::path(asked) / "checkpoints" / "last.safetensors";
  if (!fs::exists(last)) throw UsageError(fmt::format("--resume: {} holds no checkpoint", asked));
  return last;
}

// Options that were not given come from the checkpoint.
void take_over(Options& o, const Knobs& k) {
  if (k.resume.empty()) return;
  std::map<std::string, std::string> config;
  try {
    config = read_config(checkpoint_of(k.resume));
  } catch (const IoError& error) {
    throw UsageError(fmt::format("--resume: {}", error.what()));
  }
  if (config["task"] != k.task)
    throw UsageError(fmt::format("--resume: {} learns {}, not {}", k.resume, config["task"], k.task));
  for (Options::Entry& e : o.entries())
    if (!e.given && travels(e.name) && config.contains(e.name)) e.set(config[e.name]);
}

// ---- The run -------------------------------------------------------------------------------------------------------
struct Curves {
  Series loss{.name = "training", .points = false}, held_out{.name = "held out"}, accuracy{.name = "accuracy"};
  std::map<std::pair<std::int64_t, std::int64_t>, Series> entropy, dead;   // by layer and head
};

double number_in(const Row& row, const std::string& name) {
  for (const auto& [column, value] : row)
    if (column == name) {
      if (const double* d = std::get_if<double>(&value)) return *d;
      if (const std::int64_t* i = std::get_if<std::int64_t>(&value)) return double(*i);
    }
  return automatic;
}

class Run {
 public:
  Run(Lab& lab, const Knobs& knobs, Trainer& trainer, std::string config)
      : lab_(lab), k_(knobs), trainer_(trainer), config_(std::move(config)), first_step_(trainer.done()) {}

  void go() {
    try {
      if (trainer_.done() == 0) validate();
      while (trainer_.done() < k_.steps) one_step();
    } catch (const Diverged& error) {
      throw std::runtime_error(fmt::format("{}; the last good checkpoint is {}", error.what(),
                                           saved_.empty() ? "none" : saved_.back().string()));
    }
    if (saved_at_ != trainer_.done()) save();
    if (score_at_ != trainer_.done()) validate();
  }

  void finish() {
    lab_.result("task", k_.task);
    lab_.result("accuracy", score_.accuracy);
    lab_.result("loss", score_.loss);
    lab_.result("steps", trainer_.done());
    lab_.result("parameters", trainer_.model().parameters().count());
    lab_.result("seconds", seconds());
    lab_.result("tokens_per_second", speed());
    lab_.show({"", {"task", "parameters", "steps", "held-out loss", "accuracy", "tokens/s", "seconds"},
               {{k_.task, std::to_string(trainer_.model().parameters().count()), std::to_string(trainer_.done()),
                 number(score_.loss, 4), number(100 * score_.accuracy, 4) + " %", fmt::format("{:.0f}", speed()),
                 number(seconds())}}});
    draw();
    if (k_.task == "text" && k_.sample_length > 0)
      lab_.print("What it writes:\n" + trainer_.sample(k_.sample_length) + "\n\n");
  }

 private:
  using Clock = std::chrono::steady_clock;
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  double speed() const { return double((trainer_.done() - first_step_) * trainer_.tokens_per_step()) / seconds(); }
  bool due(std::int64_t every) const { return every > 0 && trainer_.done() % every == 0; }

  void one_step() {
    const bool looks = due(k_.look_every);
    if (looks) look();
    const Trainer::Step step = trainer_.step();
    const std::int64_t done = trainer_.done();
    if (looks)
      for (const Row& row : trainer_.updates()) lab_.row(row);
    if (due(k_.log_every) || done == 1) {
      lab_.row({{"kind", "step"}, {"step", done}, {"loss", step.loss}, {"lr", step.lr},
                {"gradient_norm", step.gradient_norm}, {"skipped", step.skipped}});
      curves_.loss.x.push_back(double(done));
      curves_.loss.y.push_back(step.loss);
    }
    if (due(k_.validate_every)) validate();
    if (due(k_.checkpoint_every)) save();
    lab_.progress(k_.task, done, k_.steps, fmt::format("loss {:.4f}  accuracy {:.1f} %  {:.0f} tokens/s", step.loss,
                                                       100 * score_.accuracy, speed()));
    if (Lab::interrupted() || done == k_.stop_after) {
      if (saved_at_ != done) save();
      throw Interrupted();
    }
  }

  void look() {
    for (const Row& row : trainer_.look()) {
      lab_.row(row);
      const double layer = number_in(row, "layer"), head = number_in(row, "head"), step = number_in(row, "step");
      if (std::isnan(head)) continue;
      const std::pair key{std::int64_t(layer), std::int64_t(head)};
      const auto append = [&](auto& all, const char* column) {
        Series& series = all[key];
        series.name = fmt::format("layer {} head {}", layer, head);
        series.x.push_back(step);
        series.y.push_back(number_in(row, column));
      };
      append(curves_.entropy, "entropy");
      append(curves_.dead, "dead_rows");
    }
  }

  void validate() {
    score_ = trainer_.held_out();
    score_at_ = trainer_.done();
    lab_.row({{"kind", "validation"}, {"step", score_at_}, {"loss", score_.loss}, {"accuracy", score_.accuracy}});
    for (Series* series : {&curves_.held_out, &curves_.accuracy}) series->x.push_back(double(score_at_));
    curves_.held_out.y.push_back(score_.loss);
    curves_.accuracy.y.push_back(score_.accuracy);
    if (score_.loss >= best_) return;
    best_ = score_.loss;
    trainer_.save(lab_.file("checkpoints/best.safetensors"), config_);
  }

  // The step's own file first: while "last" is being replaced there is a whole one.
  void save() {
    const fs::path path = lab_.file(fmt::format("checkpoints/step-{:07}.safetensors", trainer_.done()));
    trainer_.save(path, config_);
    trainer_.save(lab_.file("checkpoints/last.safetensors"), config_);
    saved_at_ = trainer_.done();
    saved_.push_back(path);
    while (std::ssize(saved_) > k_.keep) {
      fs::remove(saved_.front());
      saved_.pop_front();
    }
  }

  void draw() {
    LineChart loss{.title = "Loss", .x_label = "step", .y_label = "nats", .series = {curves_.loss, curves_.held_out},
                   .log_y = true};
    LineChart accuracy{.title = "Accuracy", .x_label = "step", .series = {curves_.accuracy}, .y_low = 0, .y_high = 1};
    lab_.draw({.name = "learning", .title = "surgeon train " + k_.task, .panels = {loss, accuracy}});
    if (curves_.entropy.empty()) return;
    LineChart entropy{.title = "Entropy", .x_label = "step", .y_label = "nats"};
    LineChart dead{.title = "Dead rows", .x_label = "step", .y_label = "share", .y_low = 0, .y_high = 1};
    for (const auto& [key, series] : curves_.entropy) entropy.series.push_back(series);
    for (const auto& [key, series] : curves_.dead) dead.series.push_back(series);
    lab_.draw({.name = "heads", .title = "What the heads do meanwhile", .panels = {entropy, dead}});
  }

  Lab& lab_;
  const Knobs& k_;
  Trainer& trainer_;
  std::string config_;
  std::int64_t first_step_, saved_at_ = -1, score_at_ = -1;
  std::deque<fs::path> saved_;
  Trainer::Score score_{automatic, automatic};
  double best_ = std::numeric_limits<double>::infinity();
  Curves curves_;
  Clock::time_point start_ = Clock::now();
};

void run(Lab& lab, const Knobs& k, Options& o) {
  std::uint64_t seed = lab.seed();
  Dtype dtype = lab.dtype();
  if (!k.resume.empty()) {
    auto config = read_config(checkpoint_of(k.resume));
    seed = std::stoull(config["seed"]);
    dtype = config["dtype"] == "float64" ? Dtype::float64 : Dtype::float32;
    set_threads(std::stoi(config["threads"]));   // sums are bit-equal only for equally many
  }
  const Task task = make_task(k.task, {.tokens = k.tokens, .symbols = k.symbols, .file = k.file});
  if (!task.note.empty()) lab.warn(task.note);
  check_memory(model_config(k, task, dtype), k.batch);
  Trainer trainer(k, task, seed, dtype);
  if (!k.resume.empty()) {
    trainer.load(checkpoint_of(k.resume));
    lab.say(fmt::format("Going on after step {} of {}, with seed {} and {} thread{} as before.", trainer.done(),
                        k.resume, seed, threads(), threads() == 1 ? "" : "s"));
  }
  Run training(lab, k, trainer, config_text(o, seed, dtype));
  training.go();
  training.finish();
}

}  // namespace

Experiment train() {
  Experiment e{
      "train",
      "Can a small Transformer learn this task, and what do its heads do meanwhile?",
      "Trains on sequences that are drawn (copy, reverse, sort, induction, majority) or cut from a text. Every few "
      "steps a row says, for each layer and head, entropy, largest score, dead rows and the gradients of Q, K and V; "
      "for each weight its gradient and how far a step moves it. Look at the held-out accuracy first, then at which "
      "heads die. Ctrl-C ends the step, saves, and exits 130; --resume goes on to the same bits.",
      {"surgeon train copy", "surgeon train copy --resume runs/latest --steps 900",
       "surgeon train induction --scale none --positions rotary",
       "surgeon train text --d-model 128 --tokens 128 --steps 2000"},
      [](Options& o) -> std::function<void(Lab&)> {
        auto k = std::make_shared<Knobs>();
        // First of all checks, and before anything is written, so that the run's own config says what it was.
        o.require([&o, k] { return take_over(o, *k), true; }, "");
        add_options(o, *k);
        return [&o, k](Lab& lab) { run(lab, *k, o); };
      },
      false};
  return e;
}

}  // namespace surgeon::experiments
