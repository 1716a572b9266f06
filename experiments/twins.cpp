// surgeon twins: the same model, weights, data and order under different score rules, step by step side by side.
#include <chrono>
#include <cmath>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

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
};

// A rule: parts joined by +, each a --scale, or qk-l2, qk-rms, off-by-one, sigmoid, cap=<number>.
TrainKnobs under(const TrainKnobs& base, const std::string& rule) {
  TrainKnobs k = base;
  k.scale = "sqrt";
  for (std::size_t at = 0; at <= rule.size();) {
    const std::size_t end = std::min(rule.find('+', at), rule.size());
    const std::string part = rule.substr(at, end - at);
    at = end + 1;
    if (part == "qk-l2" || part == "qk-rms") k.qk_norm = part.substr(3);
    else if (part == "off-by-one" || part == "sigmoid") k.weighting = part;
    else if (part.starts_with("cap=")) {
      TransformerConfig number;
      set_scale(part.substr(4), number);   // refuses what is no number
      k.soft_cap = number.attention.scale.factor(1);
    } else k.scale = part;
  }
  TransformerConfig refuses;
  set_scale(k.scale, refuses);
  return k;
}

void options(Options& o, Knobs& k) {
  o.add("--rules", k.rules, "the twins' score rules: none, sqrt, inverse, log-n, learned or a number, joined by + with "
                            "qk-l2, qk-rms, off-by-one, sigmoid, cap=<number>");
  o.add("--task", k.task, "what they learn", {.choices = task_names()});
  o.add("--file", k.file, "the text of the task text");
  add_model_options(o, k);
  add_training_options(o, k);
  o.add("--seeds", k.seeds, "sets of twins, each with weights and data of its own",
        {.low = 1, .high = 1000, .quick = "2"});
  o.add("--look-every", k.look_every, "steps between two looks at heads and held-out sequences", {.low = 1});
  o.require([&k] {
    for (const std::string& rule : k.rules) under(k, rule);
    return k.rules.size() >= 2;
  }, "--rules: twins are at least two");
}

// ---- One set of twins ----------------------------------------------------------------------------------------------
struct Parting {
  std::string tensor = "none";            // of the first forward pass
  double distance = 0;                    // |difference| / |the first twin's|
};

struct Family {
  std::vector<Row> rows;
  std::vector<Parting> parting;           // of each twin from the first
  std::vector<double> seconds;
};

// Where two models of equal weights first differ on a batch.
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

Family raise(const Knobs& k, const Task& task, std::uint64_t seed, Dtype dtype) {
  Family family;
  std::vector<std::unique_ptr<Trainer>> twins;
  for (const std::string& rule : k.rules) twins.push_back(std::make_unique<Trainer>(under(k, rule), task, seed, dtype));
  family.seconds.assign(twins.size(), 0.0);
  for (const auto& twin : twins) family.parting.push_back(parting_of(*twins[0], *twin));
  const auto look = [&](std::size_t i) {
    const Row who{{"rule", k.rules[i]}, {"seed", std::int64_t(seed)}};
    for (const Row& row : twins[i]->look()) family.rows.push_back(who + row);
    const Trainer::Score score = twins[i]->held_out();
    family.rows.push_back(who + Row{{"kind", "validation"}, {"step", twins[i]->done()}, {"loss", score.loss},
                                    {"accuracy", score.accuracy}, {"distance", weight_distance(*twins[0], *twins[i])}});
  };
  for (std::int64_t step = 0; step < k.steps; ++step) {
    for (std::size_t i = 0; i < twins.size(); ++i) {
      if (step % k.look_every == 0) look(i);
      const auto start = std::chrono::steady_clock::now();
      const Trainer::Step done = twins[i]->step();
      family.seconds[i] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      family.rows.push_back({{"rule", k.rules[i]}, {"seed", std::int64_t(seed)}, {"kind", "step"}, {"step", step + 1},
                             {"loss", done.loss}, {"gradient_norm", done.gradient_norm}});
    }
    Lab::stop_if_interrupted();
  }
  for (std::size_t i = 0; i < twins.size(); ++i) look(i);
  return family;
}

// ---- What they have in common --------------------------------------------------------------------------------------
// For a rule and a step, one number per seed: the mean over layers and heads where there are several.
class Numbers {
 public:
  explicit Numbers(const std::vector<Family>& families) {
    for (const Family& family : families)
      for (const Row& row : family.rows) add(row);
  }

  std::vector<double> of(const std::string& rule, std::int64_t step, const std::string& column) const {
    std::vector<double> values;
    const auto found = all_.find({rule, column});
    if (found == all_.end() || !found->second.contains(step)) return values;
    for (const auto& [seed, sum] : found->second.at(step)) values.push_back(sum.sum / sum.n);
    return values;
  }

  Series curve(const std::string& rule, const std::string& column) const {
    Series series{.name = rule, .points = false};
    const auto found = all_.find({rule, column});
    if (found == all_.end()) return series;
    for (const auto& [step, seeds] : found->second) {
      const Statistics s = statistics(of(rule, step, column));
      series.x.push_back(double(step));
      series.y.push_back(s.mean);
      series.low.push_back(s.n > 1 ? s.mean - s.se : s.mean);
      series.high.push_back(s.n > 1 ? s.mean + s.se : s.mean);
    }
    return series;
  }

  // The first step at which the mean over seeds is at least `least`; -1: never.
  std::int64_t first(const std::string& rule, const std::string& column, double least) const {
    const Series series = curve(rule, column);
    for (std::size_t i = 0; i < series.y.size(); ++i)
      if (series.y[i] >= least) return std::int64_t(series.x[i]);
    return -1;
  }

 private:
  struct Sum { double sum = 0; double n = 0; };
  using BySeed = std::map<std::int64_t, Sum>;
  std::map<std::pair<std::string, std::string>, std::map<std::int64_t, BySeed>> all_;   // rule and column, step, seed

  void add(const Row& row) {
    std::string rule, kind;
    std::int64_t seed = 0, step = 0;
    for (const auto& [column, value] : row) {
      if (column == "rule") rule = std::get<std::string>(value);
      if (column == "kind") kind = std::get<std::string>(value);
      if (column == "seed") seed = std::get<std::int64_t>(value);
      if (column == "step") step = std::get<std::int64_t>(value);
    }
    if (kind != "head" && kind != "validation" && kind != "step") return;
    for (const auto& [column, value] : row) {
      const double* x = std::get_if<double>(&value);
      if (!x || (kind == "step" && column == "loss")) continue;   // held-out loss is the one that counts
      auto& [sum, n] = all_[{rule, column}][step][seed];
      sum += *x;
      n += 1;
    }
  }

};

std::string shown(const std::vector<double>& values) {
  const Statistics s = statistics(values);
  return s.n > 1 ? with_error(s.mean, s.se) : number(s.mean);
}

void show_tables(Lab& lab, const Knobs& k, const Numbers& numbers, const std::vector<Family>& families) {
  Table learning{"Learning (mean and standard error over seeds)",
                 {"rule", "held-out loss", "accuracy", "90 % at step", "after s", "ms/step"}, {}};
  const std::string first = "step 0", last = fmt::format("step {}", k.steps);
  Table rows{"Attention", {"rule", "entropy, " + first, last, "dead rows, " + first, last, "weights apart"}, {}};
  Table gradients{"Gradient of the queries", {"rule", "median |dQ|, " + first, last, "RMS |dQ|, " + first, last}, {}};
  for (std::size_t i = 0; i < k.rules.size(); ++i) {
    const std::string& rule = k.rules[i];
    const auto at_end = [&](const char* column) { return numbers.of(rule, k.steps, column); };
    std::vector<double> milliseconds;
    for (const Family& f : families) milliseconds.push_back(1000 * f.seconds[i] / double(k.steps));
    const std::int64_t step = numbers.first(rule, "accuracy", 0.9);
    const double pace = statistics(milliseconds).mean;
    learning.rows.push_back({rule, shown(at_end("loss")), shown(at_end("accuracy")),
                             step < 0 ? "never" : std::to_string(step),
                             step < 0 ? "" : number(double(step) * pace / 1000), number(pace)});
    const auto both_ends = [&](const char* column) {
      const auto at = [&](std::int64_t when) { return number(statistics(numbers.of(rule, when, column)).mean, 2); };
      return std::pair{at(0), at(k.steps)};
    };
    const auto entropy = both_ends("entropy"), dead = both_ends("dead_rows");
    const auto median = both_ends("grad_q_median"), rms = both_ends("grad_q_rms");
    rows.rows.push_back({rule, entropy.first, entropy.second, dead.first, dead.second, shown(at_end("distance"))});
    gradients.rows.push_back({rule, median.first, median.second, rms.first, rms.second});
  }
  for (const Table* table : {&learning, &rows, &gradients}) lab.show(*table);
}

void draw(Lab& lab, const Knobs& k, const Numbers& numbers) {
  const auto chart = [&](const char* title, const char* column, bool log_y) {
    LineChart c{.title = title, .x_label = "step", .log_y = log_y};
    for (const std::string& rule : k.rules) c.series.push_back(numbers.curve(rule, column));
    return c;
  };
  lab.draw({.name = "learning", .title = "Twins: the same weights, data and order",
            .panels = {chart("Held-out loss", "loss", true), chart("Accuracy", "accuracy", false)}});
  lab.draw({.name = "heads", .title = "Twins: inside the heads",
            .panels = {chart("Entropy", "entropy", false), chart("Dead rows", "dead_rows", false),
                       chart("Median |dQ|", "grad_q_median", true), chart("RMS |dQ|", "grad_q_rms", true)},
            .columns = 2});
}

// Only what was measured, in the direction in which it came out.
std::string verdict_on(const Knobs& k, const Numbers& numbers, const std::string& rule) {
  const std::string& first = k.rules[0];
  const auto mean = [&](const std::string& who, std::int64_t step, const char* column) {
    return statistics(numbers.of(who, step, column)).mean;
  };
  const auto se = [&](const char* column) {
    const double a = statistics(numbers.of(first, k.steps, column)).se;
    const double b = statistics(numbers.of(rule, k.steps, column)).se;
    return std::sqrt(a * a + b * b);
  };
  const double gap = mean(rule, k.steps, "loss") - mean(first, k.steps, "loss"), error = se("loss");
  std::string text = fmt::format("{} against {}: at the start {:.0f} % of the rows are dead against {:.0f} %, the "
                                 "median |dQ| is {} times as large and its RMS {} times. ",
                                 rule, first, 100 * mean(rule, 0, "dead_rows"), 100 * mean(first, 0, "dead_rows"),
                                 number(mean(rule, 0, "grad_q_median") / mean(first, 0, "grad_q_median"), 2),
                                 number(mean(rule, 0, "grad_q_rms") / mean(first, 0, "grad_q_rms"), 2));
  if (k.seeds == 1)
    return text + fmt::format("After {} steps its held-out loss is {} {}; one seed does not tell how much of that is "
                              "chance.", k.steps, number(std::abs(gap), 2), gap > 0 ? "higher" : "lower");
  if (!(std::abs(gap) > 2 * error))
    return text + fmt::format("After {} steps their held-out losses differ by no more than chance over {} seeds.",
                              k.steps, k.seeds);
  text += fmt::format("After {} steps its held-out loss is {} {} ({:.1f} standard errors), ", k.steps,
                      number(std::abs(gap), 2), gap > 0 ? "higher" : "lower", std::abs(gap) / error);
  const double dead = mean(rule, 0, "dead_rows") - mean(first, 0, "dead_rows");
  if (std::abs(dead) < 0.005) return text + "which dead rows do not explain.";
  return text + ((dead > 0) == (gap > 0) ? "as its dead rows suggest." : "against what its dead rows suggest.");
}

void run(Lab& lab, const Knobs& k) {
  const Task task = make_task(k.task, {.tokens = k.tokens, .symbols = k.symbols, .file = k.file});
  if (!task.note.empty()) lab.warn(task.note);
  for (const std::string& rule : k.rules) check_memory(model_config(under(k, rule), task, lab.dtype()), k.batch);
  std::vector<Family> families(static_cast<std::size_t>(k.seeds));
  lab.for_each(k.seeds, "twins", [&](std::int64_t i) {
    families[std::size_t(i)] = raise(k, task, lab.seed() + std::uint64_t(i), lab.dtype());
  });
  for (const Family& family : families)
    for (const Row& row : family.rows) lab.row(row);
  const Numbers numbers(families);
  show_tables(lab, k, numbers, families);
  for (std::size_t i = 1; i < k.rules.size(); ++i) {
    const Parting& parting = families[0].parting[i];
    lab.say(parting.tensor == "none"
                ? fmt::format("{} and {} are the same before the first step.", k.rules[0], k.rules[i])
                : fmt::format("{} and {} part before the first step, at {}, by {} of its norm.", k.rules[0], k.rules[i],
                              parting.tensor, number(parting.distance)));
    lab.result("parts_at_" + k.rules[i], parting.tensor);
  }
  for (const std::string& rule : k.rules) {
    lab.result("loss_" + rule, statistics(numbers.of(rule, k.steps, "loss")).mean);
    lab.result("accuracy_" + rule, statistics(numbers.of(rule, k.steps, "accuracy")).mean);
  }
  draw(lab, k, numbers);
  for (std::size_t i = 1; i < k.rules.size(); ++i) lab.verdict(verdict_on(k, numbers, k.rules[i]));
}

}  // namespace

Experiment twins() {
  return {"twins",
          "What does a score rule do to learning, when all else is the same?",
          "Trains twins that share weights, data and order and differ in the rule for their scores, over several "
          "seeds. Measures held-out loss and accuracy, entropy, dead rows and the gradients of Q, K and V as they "
          "learn, and where the twins part. Look at the step that reaches 90 %, then at the median and the RMS of "
          "|dQ|: they can move in opposite directions.",
          {"surgeon twins", "surgeon twins --rules sqrt,none,inverse,qk-l2+10 --task copy --seeds 8"},
          knobs<Knobs>(options, run),
          false};
}

}  // namespace surgeon::experiments
