// surgeon train: a Transformer learns a task, shows what its attention does meanwhile, and can be stopped and resumed.
#include <chrono>
#include <cmath>
#include <deque>
#include <optional>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "experiments/figures.hpp"
#include "experiments/lab.hpp"
#include "experiments/run_folder.hpp"
#include "experiments/training.hpp"
#include "framework/checkpoints.hpp"
#include "framework/machine.hpp"

namespace surgeon::experiments {
namespace {

namespace fs = std::filesystem;

struct Knobs : TrainKnobs {
  Knobs() { task = ""; }
  std::int64_t log_every = 10, look_every = 100, validate_every = 50, checkpoint_every = 200, keep = 3, stop_after = 0;
  std::int64_t sample_length = 300;
  std::string resume = {};
  // Made when the options are checked.
  std::optional<SavedRun> resumed = {};              // read when the options are checked: once a folder is made,
  std::vector<Row> earlier = {};                     // runs/latest is another run. What it had measured by then
  std::optional<Task> data = {};
  std::unique_ptr<Trainer> trainer = {};             // of a resumed run
};

void add_options(Options& o, Knobs& k) {
  add_run_options(o, k);
  o.add("--log-every", k.log_every, "steps between rows of the training loss", {.low = 1});
  o.add("--look-every", k.look_every, "steps between measurements of heads and weights; 0: none", {.low = 0});
  o.add("--validate-every", k.validate_every, "steps between measurements of the held-out loss", {.low = 1});
  o.add("--checkpoint-every", k.checkpoint_every, "steps between checkpoints", {.low = 1});
  o.add("--keep", k.keep, "number of most recent step checkpoints to keep", {.low = 1});
  o.add("--sample-length", k.sample_length, "characters to generate after training on text", {.low = 0, .high = 1e6});
  o.add("--stop-after", k.stop_after, "stop after this step, as Ctrl-C would; 0: run to the end", {.low = 0});
  o.add("--resume", k.resume,
        "run folder or checkpoint to continue, with its options except for those given here");
}

// ---- Resuming -----------------------------------------------------------------------------------------------------
// A checkpoint that cannot be read, or that says what no option may, is a wrong option.
void with_checkpoint(const std::function<void()>& work) {
  try {
    work();
  } catch (const IoError& error) {
    throw UsageError(fmt::format("--resume: {}", error.what()));
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("--resume: {}", error.what()));
  }
}

// Options that were not given come from the checkpoint.
void take_over(Options& o, Knobs& k) {
  if (k.resume.empty()) return;
  with_checkpoint([&] {
    k.resumed = read_saved(checkpoint_in(k.resume));
    const std::string& task = k.resumed->options["task"];
    if (!k.task.empty() && k.task != task)
      throw UsageError(fmt::format("{} learns {}, not {}", k.resume, task, k.task));
    for (Options::Entry& e : o.entries())
      if (!e.given && travels(e.name)) set_from(*k.resumed, e);
  });
}

// What the run had measured when it wrote the checkpoint; it may have gone on afterwards. A look comes before its step.
std::vector<Row> rows_before(const fs::path& checkpoint, std::int64_t done) {
  std::vector<Row> rows = read_rows(checkpoint.parent_path().parent_path() / "metrics.jsonl");
  std::erase_if(rows, [done](const Row& row) {
    const bool look = text_in(row, "kind") == "head" || text_in(row, "kind") == "gradient";
    if (text_in(row, "kind") == "role") return true;   // of the weights that the earlier run ended with
    return !(number_in(row, "step") <= double(look ? done - 1 : done));
  });
  return rows;
}

// Builds what the options describe, so that all that can be wrong with them is found before a folder is made.
void build(Knobs& k) {
  if (k.task.empty()) throw UsageError(fmt::format("task is missing: {}", fmt::join(task_names(), ", ")));
  k.data = make_task(k);
  if (!k.file.empty()) k.file = fs::canonical(k.file).string();   // whoever resumes may stand elsewhere
  check_memory(model_config(k, *k.data, k.resumed ? k.resumed->dtype : Dtype::float32), k.batch);
  if (!k.resumed) return;
  k.trainer = std::make_unique<Trainer>(k, *k.data, std::uint64_t(k.resumed->seed), k.resumed->dtype);
  with_checkpoint([&] { k.trainer->load(k.resumed->checkpoint); });
  k.earlier = rows_before(k.resumed->checkpoint, k.trainer->done());
}

// ---- The run -------------------------------------------------------------------------------------------------------
struct Curves {
  Series loss{.name = "training", .points = false}, held_out{.name = "held out"}, accuracy{.name = "accuracy"};
  std::map<std::pair<std::int64_t, std::int64_t>, Series> entropy = {}, dead = {};   // by layer and head

  void add_loss(std::int64_t step, double y) { append(loss, step, y); }
  void add_score(std::int64_t step, const Trainer::Score& score) {
    append(held_out, step, score.loss);
    append(accuracy, step, score.accuracy);
  }
  void add_head(std::int64_t step, const HeadLook& head) {
    for (const auto& [all, y] : {std::pair{&entropy, head.entropy}, std::pair{&dead, head.dead_rows}}) {
      Series& series = (*all)[{head.layer, head.head}];
      series.name = fmt::format("layer {} head {}", head.layer, head.head);
      append(series, step, y);
    }
  }
  void add_row(const Row& row) {   // of an earlier run
    const std::int64_t step = std::int64_t(number_in(row, "step"));
    const std::string kind = text_in(row, "kind");
    if (kind == "step") add_loss(step, number_in(row, "loss"));
    if (kind == "validation") add_score(step, {number_in(row, "loss"), number_in(row, "accuracy")});
    if (kind == "head")
      add_head(step, {.layer = std::int64_t(number_in(row, "layer")), .head = std::int64_t(number_in(row, "head")),
                      .entropy = number_in(row, "entropy"), .dead_rows = number_in(row, "dead_rows")});
  }

 private:
  static void append(Series& series, std::int64_t step, double y) {
    series.x.push_back(double(step));
    series.y.push_back(y);
  }
};

class Run {
 public:
  Run(Lab& lab, const Knobs& knobs, Trainer& trainer, std::string config)
      : lab_(lab), k_(knobs), trainer_(trainer), config_(std::move(config)), first_step_(trainer.done()) {
    for (const Row& row : k_.earlier) {   // so that rows and curves are those of the whole run
      lab_.row(row);
      curves_.add_row(row);
    }
  }

  void go() {
    try {
      if (trainer_.done() == 0) validate();
      while (trainer_.done() < k_.steps) one_step();
    } catch (const Diverged& error) {
      throw std::runtime_error(fmt::format("{}; last good checkpoint: {}", error.what(),
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
    show_roles();
    if (k_.task == "text" && k_.sample_length > 0)
      lab_.print("Text written by the model:\n" + trainer_.sample(k_.sample_length) + "\n\n");
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
      for (const Row& row : rows_of(trainer_.updates(), done)) lab_.row(row);
    if (due(k_.log_every) || done == 1) {
      lab_.row({{"kind", "step"}, {"step", done}, {"loss", step.loss}, {"lr", step.lr},
                {"gradient_norm", step.gradient_norm}, {"skipped", step.skipped}});
      curves_.add_loss(done, step.loss);
    }
    if (due(k_.validate_every)) validate();
    if (due(k_.checkpoint_every)) save();
    lab_.progress(k_.task, done, k_.steps, fmt::format("loss {:.4f}  accuracy {:.1f} %  {:.0f} tokens/s", step.loss,
                                                       100 * score_.accuracy, speed()));
    if (Lab::interrupted() || done == k_.stop_after) stop();
  }

  [[noreturn]] void stop() {
    if (saved_at_ != trainer_.done()) save();
    lab_.print(fmt::format("Stopped after step {}. To go on:\n  {}\n", trainer_.done(),
                           lab_.command("train --resume", lab_.folder())));
    throw Interrupted();
  }

  void look() {
    const Look look = trainer_.look();
    for (const Row& row : rows_of(look)) lab_.row(row);
    for (const HeadLook& head : look.heads) curves_.add_head(look.step, head);
  }

  void validate() {
    score_ = trainer_.held_out();
    score_at_ = trainer_.done();
    lab_.row({{"kind", "validation"}, {"step", score_at_}, {"loss", score_.loss}, {"accuracy", score_.accuracy}});
    curves_.add_score(score_at_, score_);
    if (score_.loss >= best_) return;
    best_ = score_.loss;
    trainer_.save(lab_.file("checkpoints/best.safetensors"), config_);
  }

  // The step's own file first, so that there is a whole checkpoint while "last" is being replaced.
  void save() {
    const fs::path path = lab_.file(fmt::format("checkpoints/step-{:07}.safetensors", trainer_.done()));
    trainer_.save(path, config_);
    trainer_.save(lab_.file("checkpoints/last.safetensors"), config_);
    lab_.settle();
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
    LineChart accuracy{.title = "Held-out accuracy", .x_label = "step", .y_label = "share",
                       .series = {curves_.accuracy}, .y_low = 0, .y_high = 1};
    lab_.draw({.name = "learning", .title = "surgeon train " + k_.task, .panels = {loss, accuracy}});
    if (curves_.entropy.empty()) return;
    LineChart entropy{.title = "Entropy", .x_label = "step", .y_label = "nats"};
    LineChart dead{.title = "Dead rows", .x_label = "step", .y_label = "share", .y_low = 0, .y_high = 1};
    for (const auto& [key, series] : curves_.entropy) entropy.series.push_back(series);
    for (const auto& [key, series] : curves_.dead) dead.series.push_back(series);
    lab_.draw({.name = "heads", .title = "What the heads do meanwhile", .panels = {entropy, dead}});
  }

  // What each head came to do, and how its weights look on the first held-out sequence.
  void show_roles() {
    const Attended seen = trainer_.attended();
    const std::vector<HeadRole> roles = roles_of(seen, k_.heads);
    if (roles.empty()) return;
    Table table{"Where the heads look, on held-out sequences", {"layer", "head", "mostly at", "weight", "evenly"}, {}};
    Figure figure{.name = "attention", .title = "What the heads attend to",
                  .columns = int(std::min<std::int64_t>(k_.heads, 4)), .one_bar = true};
    for (const HeadRole& r : roles) {
      table.rows.push_back(cells_of(r));
      lab_.row(row_of(r, trainer_.done()));
      if (std::ssize(figure.panels) < 16) figure.panels.push_back(map_of(seen, r, *k_.data));
    }
    lab_.show(table);
    lab_.draw(figure);
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

Trainer& trainer_for(Lab& lab, Knobs& k) {
  if (k.trainer) {
    set_threads(int(k.resumed->threads));   // sums are bit-equal only for the same number of threads
    require_resources();
    lab.say(fmt::format("Resuming {} after step {}, with seed {} and {} thread{} as before.", k.resume,
                        k.trainer->done(), k.resumed->seed, threads(), threads() == 1 ? "" : "s"));
    if (!k.resumed->kernels.empty() && k.resumed->kernels != kernels_here())
      lab.warn(fmt::format("the checkpoint was made with {}, this is {}: the last bits of all numbers may differ from "
                           "those of a run that was never stopped", k.resumed->kernels, kernels_here()));
    if (k.trainer->done() >= k.steps)
      lab.warn(fmt::format("the run has done its {} steps; raise --steps to go on", k.steps));
    if (k.trainer->done() > 0 && k.earlier.empty())
      lab.warn("no metrics.jsonl beside the checkpoint's folder: the curves begin where it ends");
  } else {
    check_memory(model_config(k, *k.data, lab.dtype()), k.batch);
    k.trainer = std::make_unique<Trainer>(k, *k.data, lab.seed(), lab.dtype());
  }
  return *k.trainer;
}

void run(Lab& lab, Knobs& k, Options& o) {
  if (!k.data->note.empty()) lab.warn(k.data->note);
  Trainer& trainer = trainer_for(lab, k);
  const std::uint64_t seed = k.resumed ? std::uint64_t(k.resumed->seed) : lab.seed();
  Run training(lab, k, trainer, config_text(o, seed, k.resumed ? k.resumed->dtype : lab.dtype()));
  training.go();
  training.finish();
}

}  // namespace

Experiment train() {
  Experiment e{
      "train",
      "Can a small Transformer learn this task, and what do its heads do meanwhile?",
      "Trains on generated sequences (copy, reverse, sort, induction, majority) or on the characters of a text. "
      "Measured every few steps: for each head its entropy (nats), largest score, share of dead rows (||dw/ds|| < "
      "1e-3), and the median and RMS over queries of the norm of dL/dq, where L is the mean loss, likewise for keys "
      "and values; for each weight its gradient and how far a step moves it. Look at the held-out accuracy first, then "
      "at which heads die. Ctrl-C finishes the step, saves a checkpoint and exits with code 130; --resume then gives "
      "the same bits as a run that was never stopped.",
      {"surgeon train copy", "surgeon train --resume runs/latest --steps 900",
       "surgeon train induction --scale none --positions rotary",
       "surgeon train text --d-model 128 --tokens 128 --steps 2000"},
      [](Options& o) -> std::function<void(Lab&)> {
        auto k = std::make_shared<Knobs>();
        o.before_check([&o, k] { take_over(o, *k); });   // before any other check
        add_options(o, *k);
        o.before_check([k] { build(*k); });
        return [&o, k](Lab& lab) { run(lab, *k, o); };
      },
      false};
  return e;
}

}  // namespace surgeon::experiments
