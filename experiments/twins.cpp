// surgeon twins: the same model, weights, data and order under different score rules, step by step side by side.
#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>

#include <fmt/format.h>

#include "experiments/figures.hpp"
#include "experiments/lab.hpp"
#include "experiments/training.hpp"
#include "framework/diagnostics.hpp"
#include "framework/probe.hpp"

namespace surgeon::experiments {
namespace {

struct Knobs : TrainKnobs {
  Knobs() {
    task = "induction";
    d_model = 128;
    heads = 1;
    batch = 32;
    steps = 300;
    init = "xavier-normal";   // queries and keys of variance 1: the setting in which 1/sqrt(d_k) was argued for
  }
  std::vector<std::string> rules{"sqrt", "none"};
  std::int64_t seeds = 4, look_every = 20;
  std::optional<Task> data = {};   // made when the options are checked
};

// A rule: parts joined by +, each a --scale, or qk-l2, qk-rms, off-by-one, sigmoid, cap=<number>.
TrainKnobs under(const TrainKnobs& base, const std::string& rule) {
  TrainKnobs k = base;
  k.scale = "sqrt";
  Options cap;
  cap.add("--rules: cap", k.soft_cap, "", {.low = 0});
  for (std::size_t at = 0; at <= rule.size();) {
    const std::size_t end = std::min(rule.find('+', at), rule.size());
    const std::string part = rule.substr(at, end - at);
    at = end + 1;
    if (part == "qk-l2" || part == "qk-rms") k.qk_norm = part.substr(3);
    else if (part == "off-by-one" || part == "sigmoid") k.weighting = part;
    else if (part.starts_with("cap=")) cap.entries().front().set(part.substr(4));
    else k.scale = part;
  }
  return k;
}

// Everything that can be wrong with the options, before a folder is made.
void check(Knobs& k) {
  if (k.rules.size() < 2) throw UsageError("--rules: give at least two rules, such as sqrt,none");
  k.data = make_task(k);
  if (!k.file.empty()) k.file = std::filesystem::canonical(k.file).string();   // for whoever reads the checkpoints
  for (const std::string& rule : k.rules)
    check_memory(model_config(under(k, rule), *k.data, Dtype::float32), k.batch);
}

void options(Options& o, Knobs& k) {
  o.add("--rules", k.rules, "score rules to compare: none, sqrt, inverse, log-n, learned or a number, with "
                            "qk-l2, qk-rms, off-by-one, sigmoid or cap=<number> added by +");
  o.add("--task", k.task, "task to learn", {.choices = task_names()});
  o.add("--file", k.file, "file to read when the task is text");
  add_model_options(o, k);
  add_training_options(o, k);
  o.add("--seeds", k.seeds, "sets of twins, each with its own weights and data",
        {.low = 1, .high = 1000, .quick = "2"});
  o.add("--look-every", k.look_every, "steps between measurements of the heads and the held-out loss", {.low = 1});
  o.before_check([&k] { check(k); });
}

// ---- One set of twins ----------------------------------------------------------------------------------------------
// What one twin showed at one step; what has a value for each head is the mean over layers and heads.
struct Moment {
  std::int64_t step;
  double loss, accuracy;                                   // held out
  double distance;                                         // of its weights from the first twin's
  double entropy, dead_rows, grad_q_median, grad_q_rms;
};

struct Parting {
  std::string tensor = "none";   // the first that differs from the first twin's in the first forward pass
  double distance = 0;           // |difference| / |the first twin's|
};

struct Twin {
  Parting parting = {};
  std::vector<Moment> moments = {};
  double seconds = 0;            // spent in steps
};

struct Family {                              // in the order of --rules
  std::vector<Twin> twins;
  std::vector<Row> rows;
  std::vector<Attended> attended = {};       // in the end; of the first seed's twins
};

// Where two models with equal weights first differ on a batch.
Parting parting_of(const Trainer& a, const Trainer& b) {
  NoRecord pause;
  Rng rng(0);
  const Tensor tokens = a.task().draw_held_out(rng, 8).tokens;
  const auto all_of = [&](const Trainer& trainer) {
    Probe all;
    trainer.model()(tokens);
    return all.seen();
  };
  const auto x = all_of(a), y = all_of(b);
  for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
    const bool scores = x[i].first.ends_with("scores");   // what is masked is -inf in both
    const auto finite = [&](const Tensor& t) {
      return scores ? masked_fill(t, t == -std::numeric_limits<double>::infinity(), 0.0) : t;
    };
    const double distance = norm(finite(x[i].second) - finite(y[i].second)) / norm(finite(x[i].second));
    if (distance > 0) return {x[i].first, distance};
  }
  return {};
}

double weight_distance(const Trainer& a, const Trainer& b) {
  double apart = 0, size = 0;
  const Parameters other = b.model().parameters();
  for (const auto& [name, parameter] : a.model().parameters()) {
    if (name.ends_with("scale")) continue;   // learned: only one of them may have it
    const double difference = norm(parameter - other[name]), own = norm(parameter);
    apart += difference * difference;
    size += own * own;
  }
  return std::sqrt(apart / size);
}

double mean_over_heads(const Look& look, const std::function<double(const HeadLook&)>& value) {
  double sum = 0;
  for (const HeadLook& head : look.heads) sum += value(head);
  return sum / double(look.heads.size());
}

// Measures a twin; its rows, each beginning with `who`, are appended to `rows`.
Moment look_at(Trainer& twin, const Trainer& first, const Row& who, std::vector<Row>& rows) {
  const Look look = twin.look();
  const Trainer::Score score = twin.held_out();
  const Moment now{.step = look.step, .loss = score.loss, .accuracy = score.accuracy,
                   .distance = weight_distance(first, twin),
                   .entropy = mean_over_heads(look, [](const HeadLook& h) { return h.entropy; }),
                   .dead_rows = mean_over_heads(look, [](const HeadLook& h) { return h.dead_rows; }),
                   .grad_q_median = mean_over_heads(look, [](const HeadLook& h) { return h.grad_q.median; }),
                   .grad_q_rms = mean_over_heads(look, [](const HeadLook& h) { return h.grad_q.rms; })};
  for (const Row& row : rows_of(look)) rows.push_back(who + row);
  rows.push_back(who + Row{{"kind", "validation"}, {"step", now.step}, {"loss", now.loss},
                           {"accuracy", now.accuracy}, {"distance", now.distance}});
  return now;
}

// The first seed's twins are saved: `surgeon inspect` reads them.
void keep(Lab& lab, const Knobs& k, const std::vector<std::unique_ptr<Trainer>>& trainers, Family& family) {
  for (std::size_t i = 0; i < trainers.size(); ++i) {
    family.attended.push_back(trainers[i]->attended());
    try {
      trainers[i]->save(lab.file("checkpoints/" + k.rules[i] + ".safetensors"),
                        config_text(trainers[i]->knobs(), lab.seed(), lab.dtype()));
    } catch (const Diverged&) {   // its last step: what was measured stays, and there is no model to keep
    }
  }
}

Family raise(Lab& lab, const Knobs& k, std::uint64_t seed) {
  using Clock = std::chrono::steady_clock;
  Family family{std::vector<Twin>(k.rules.size()), {}};
  std::vector<std::unique_ptr<Trainer>> trainers;
  for (const std::string& rule : k.rules)
    trainers.push_back(std::make_unique<Trainer>(under(k, rule), *k.data, seed, lab.dtype()));
  const auto who = [&](std::size_t i) { return Row{{"rule", k.rules[i]}, {"seed", std::int64_t(seed)}}; };
  const auto look = [&](std::size_t i) {
    family.twins[i].moments.push_back(look_at(*trainers[i], *trainers[0], who(i), family.rows));
  };
  for (std::size_t i = 0; i < trainers.size(); ++i) family.twins[i].parting = parting_of(*trainers[0], *trainers[i]);
  for (std::int64_t step = 0; step < k.steps; ++step) {
    for (std::size_t i = 0; i < trainers.size(); ++i) {
      if (step % k.look_every == 0) look(i);
      const Clock::time_point start = Clock::now();
      const Trainer::Step done = trainers[i]->step();
      family.twins[i].seconds += std::chrono::duration<double>(Clock::now() - start).count();
      family.rows.push_back(who(i) + Row{{"kind", "step"}, {"step", step + 1}, {"loss", done.loss},
                                         {"gradient_norm", done.gradient_norm}});
    }
    Lab::stop_if_interrupted();
  }
  for (std::size_t i = 0; i < trainers.size(); ++i) look(i);
  if (seed == lab.seed()) keep(lab, k, trainers, family);
  return family;
}

// ---- Over the seeds ------------------------------------------------------------------------------------------------
// What all families showed: for one rule (by its place in --rules) and one moment, one number per seed.
class Numbers {
 public:
  using Column = double Moment::*;
  explicit Numbers(const std::vector<Family>& families) : families_(families) {}

  Statistics at(std::size_t rule, std::size_t moment, Column column) const {
    std::vector<double> values;
    for (const Family& family : families_) values.push_back(family.twins[rule].moments[moment].*column);
    return statistics(values);
  }
  Statistics at_start(std::size_t rule, Column column) const { return at(rule, 0, column); }
  Statistics at_end(std::size_t rule, Column column) const { return at(rule, moments(rule).size() - 1, column); }

  Series curve(std::size_t rule, Column column, const std::string& name) const {
    Series series{.name = name, .points = false};
    for (std::size_t m = 0; m < moments(rule).size(); ++m) {
      const Statistics s = at(rule, m, column);
      const double se = s.n > 1 ? s.se : 0.0;
      series.x.push_back(double(moments(rule)[m].step));
      series.y.push_back(s.mean);
      series.low.push_back(std::max(0.0, s.mean - se));   // nothing that is drawn can be negative
      series.high.push_back(s.mean + se);
    }
    return series;
  }

  // The first step at which the mean accuracy over the seeds is at least `least`; -1 if there is none.
  std::int64_t first_step(std::size_t rule, double least) const {
    for (std::size_t m = 0; m < moments(rule).size(); ++m)
      if (at(rule, m, &Moment::accuracy).mean >= least) return moments(rule)[m].step;
    return -1;
  }

  double seconds(std::size_t rule) const {   // mean over the seeds
    double sum = 0;
    for (const Family& family : families_) sum += family.twins[rule].seconds;
    return sum / double(families_.size());
  }

 private:
  const std::vector<Moment>& moments(std::size_t rule) const { return families_[0].twins[rule].moments; }
  const std::vector<Family>& families_;
};

std::string shown(const Statistics& s) { return s.n > 1 ? with_error(s.mean, s.se) : number(s.mean); }

void show_tables(Lab& lab, const Knobs& k, const Numbers& numbers) {
  Table learning{fmt::format("After {} steps, mean over {} seed{} (in brackets: standard error)", k.steps, k.seeds,
                             k.seeds == 1 ? "" : "s"),
                 {"rule", "held-out loss", "accuracy", "steps to 90 %", "s to 90 %", "ms/step"}, {}};
  Table attention{"Entropy (nats), share of dead rows, and distance of the weights from the first twin's",
                  {"rule", "entropy, start", "end", "dead, start", "end", "distance"}, {}};
  Table gradients{"|dQ|: the norm of each query's gradient, at the start and at the end",
                  {"rule", "median, start", "end", "RMS, start", "end"}, {}};
  for (std::size_t i = 0; i < k.rules.size(); ++i) {
    const auto start = [&](Numbers::Column c) { return number(numbers.at_start(i, c).mean, 2); };
    const auto end = [&](Numbers::Column c) { return number(numbers.at_end(i, c).mean, 2); };
    const std::int64_t step = numbers.first_step(i, 0.9);
    const double pace = numbers.seconds(i) / double(k.steps);
    learning.rows.push_back({k.rules[i], shown(numbers.at_end(i, &Moment::loss)),
                             shown(numbers.at_end(i, &Moment::accuracy)), step < 0 ? "never" : std::to_string(step),
                             step < 0 ? "-" : number(double(step) * pace), number(1000 * pace)});
    attention.rows.push_back({k.rules[i], start(&Moment::entropy), end(&Moment::entropy), start(&Moment::dead_rows),
                              end(&Moment::dead_rows), shown(numbers.at_end(i, &Moment::distance))});
    gradients.rows.push_back({k.rules[i], start(&Moment::grad_q_median), end(&Moment::grad_q_median),
                              start(&Moment::grad_q_rms), end(&Moment::grad_q_rms)});
  }
  for (const Table* table : {&learning, &attention, &gradients}) lab.show(*table);
}

void draw(Lab& lab, const Knobs& k, const Numbers& numbers) {
  const auto chart = [&](const char* title, const char* y_label, Numbers::Column column, bool log_y) {
    LineChart c{.title = title, .x_label = "step", .y_label = y_label, .log_y = log_y};
    for (std::size_t i = 0; i < k.rules.size(); ++i) c.series.push_back(numbers.curve(i, column, k.rules[i]));
    return c;
  };
  lab.draw({.name = "learning", .title = "Twins: the same weights, data and order",
            .panels = {chart("Held-out loss", "nats", &Moment::loss, true),
                       chart("Held-out accuracy", "share", &Moment::accuracy, false)}});
  if (k.layers == 0) return;
  lab.draw({.name = "heads", .title = "Twins: inside the heads",
            .panels = {chart("Entropy", "nats", &Moment::entropy, false),
                       chart("Dead rows", "share", &Moment::dead_rows, false),
                       chart("Median |dQ|", "norm per query", &Moment::grad_q_median, true),
                       chart("RMS |dQ|", "norm per query", &Moment::grad_q_rms, true)},
            .columns = 2});
}

// What the heads of the first seed's twins came to do.
void show_roles(Lab& lab, const Knobs& k, const std::vector<Attended>& attended) {
  Table table{"Where the first seed's heads look, on held-out sequences",
              {"rule", "layer", "head", "mostly at", "weight", "evenly"}, {}};
  Figure figure{.name = "attention", .title = "What the twins' heads attend to", .columns = 4, .one_bar = true};
  const std::size_t panels = std::max<std::size_t>(16 / k.rules.size(), 1);   // of each twin
  for (std::size_t i = 0; i < attended.size(); ++i)
    for (const HeadRole& r : roles_of(attended[i], k.heads)) {
      lab.row(Row{{"rule", k.rules[i]}, {"seed", std::int64_t(lab.seed())}} + row_of(r, k.steps));
      table.rows.push_back(cells_of(r));
      table.rows.back().insert(table.rows.back().begin(), k.rules[i]);
      if (std::size_t(r.layer * k.heads + r.head) >= panels || figure.panels.size() == 16) continue;
      Heatmap map = map_of(attended[i], r, *k.data);
      map.title.words.insert(0, k.rules[i] + ": ");
      figure.panels.push_back(map);
    }
  if (table.rows.empty()) return;
  lab.show(table);
  lab.draw(figure);
}

// ---- In words ------------------------------------------------------------------------------------------------------
std::string parting_text(const Knobs& k, std::size_t rule, const Parting& parting) {
  if (parting.tensor == "none") return fmt::format("{} and {} start out the same.", k.rules[0], k.rules[rule]);
  return fmt::format("{} and {} first differ in {}, before the first step (relative distance {}).", k.rules[0],
                     k.rules[rule], parting.tensor, number(parting.distance));
}

// The losses' difference in their common standard error decides; dead rows only say whether they point the same way.
std::string outcome_text(const Knobs& k, const Statistics& own, const Statistics& first, double more_dead_rows) {
  const double gap = own.mean - first.mean, error = std::hypot(own.se, first.se);
  const std::string how_much = fmt::format("{} {}", number(std::abs(gap), 2), gap > 0 ? "higher" : "lower");
  if (k.seeds == 1) return how_much + " (one seed: no error bar)";
  if (!(std::abs(gap) > 2 * error)) return "the same within two standard errors";
  const std::string text = fmt::format("{} ({:.1f} standard errors), ", how_much, std::abs(gap) / error);
  if (std::abs(more_dead_rows) < 0.005) return text + "which dead rows do not explain";
  return text + ((more_dead_rows > 0) == (gap > 0) ? "as its dead rows suggest" : "against what its dead rows suggest");
}

void judge(Lab& lab, const Knobs& k, const Numbers& numbers, std::size_t rule) {
  const auto start = [&](std::size_t i, Numbers::Column column) { return numbers.at_start(i, column).mean; };
  const auto times = [&](Numbers::Column column) { return number(start(rule, column) / start(0, column), 2); };
  const double dead = start(rule, &Moment::dead_rows), dead_first = start(0, &Moment::dead_rows);
  lab.verdict(fmt::format("{} against {} after {} steps: held-out loss {}.", k.rules[rule], k.rules[0], k.steps,
                          outcome_text(k, numbers.at_end(rule, &Moment::loss), numbers.at_end(0, &Moment::loss),
                                       dead - dead_first)));
  if (k.layers == 0) return;
  lab.verdict(fmt::format("At the start: {:.0f} % dead rows against {:.0f} %; |dQ| {} times as large in the median, {} "
                          "times in the RMS.", 100 * dead, 100 * dead_first, times(&Moment::grad_q_median),
                          times(&Moment::grad_q_rms)));
}

void run(Lab& lab, const Knobs& k) {
  if (!k.data->note.empty()) lab.warn(k.data->note);
  for (const std::string& rule : k.rules) check_memory(model_config(under(k, rule), *k.data, lab.dtype()), k.batch);
  std::vector<Family> families(static_cast<std::size_t>(k.seeds));
  lab.for_each(k.seeds, "twins", [&](std::int64_t i) {
    families[std::size_t(i)] = raise(lab, k, lab.seed() + std::uint64_t(i));
  });
  for (const Family& family : families)
    for (const Row& row : family.rows) lab.row(row);
  const Numbers numbers(families);
  show_tables(lab, k, numbers);
  for (std::size_t i = 1; i < k.rules.size(); ++i) {
    const Parting& parting = families[0].twins[i].parting;
    lab.say(parting_text(k, i, parting) + "\n");
    lab.result("parts_at_" + k.rules[i], parting.tensor);
  }
  for (std::size_t i = 0; i < k.rules.size(); ++i) {
    lab.result("loss_" + k.rules[i], numbers.at_end(i, &Moment::loss).mean);
    lab.result("accuracy_" + k.rules[i], numbers.at_end(i, &Moment::accuracy).mean);
  }
  draw(lab, k, numbers);
  show_roles(lab, k, families[0].attended);
  for (std::size_t i = 1; i < k.rules.size(); ++i) judge(lab, k, numbers, i);
}

}  // namespace

Experiment twins() {
  return {"twins",
          "What does a score rule do to learning when all else is the same?",
          "Trains twins that share weights, data and order and differ only in how scores are computed, over several "
          "seeds. Measured: held-out loss and accuracy; entropy, dead rows (||dw/ds|| < 1e-3) and the norms of each "
          "query's, key's and value's gradient of the mean loss; and where the twins first differ. Look at the step "
          "that reaches 90 %, then at the median and the RMS of |dQ|: they can move in opposite directions. The first "
          "seed's twins are saved, for `surgeon inspect RUN`.",
          {"surgeon twins", "surgeon twins --rules sqrt,none,inverse,qk-l2+10 --task copy --seeds 8"},
          knobs<Knobs>(options, run),
          false};
}

}  // namespace surgeon::experiments
