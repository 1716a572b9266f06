// surgeon compare RUN RUN: where two runs differ: options, rows in order, weights in their checkpoints.
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <system_error>

#include <fmt/format.h>

#include "experiments/figures.hpp"
#include "experiments/lab.hpp"
#include "experiments/run_folder.hpp"
#include "framework/diagnostics.hpp"
#include "framework/ops.hpp"
#include "framework/serialize.hpp"

namespace surgeon::experiments {
namespace {

namespace fs = std::filesystem;

struct Knobs {
  std::string a = {}, b = {};
  double tolerance = 0.0;
  std::vector<RunFolder> runs = {};   // both, read when the options are checked
};

void options(Options& o, Knobs& k) {
  o.add("run", k.a, "a run folder", {.required = true});
  o.add("other", k.b, "another run folder", {.required = true});
  o.add("--tolerance", k.tolerance, "numbers count as equal up to this difference relative to the larger",
        {.low = 0, .high = 1});
  // Before a folder is made, which would move runs/latest.
  o.before_check([&k] {
    for (const std::string* asked : {&k.a, &k.b}) {
      std::error_code unknown;   // what cannot be resolved cannot be read either
      const fs::path path = fs::weakly_canonical(*asked, unknown);
      k.runs.push_back(read_run(unknown ? fs::path(*asked) : path));
    }
  });
}

// ---- Options -------------------------------------------------------------------------------------------------------
std::string option_in(const RunFolder& run, const std::string& name) {
  for (const auto& [own, value] : run.options)
    if (own == name) return value;
  return "-";
}

// How many differ.
std::int64_t compare_options(Lab& lab, const RunFolder& a, const RunFolder& b) {
  Table table{"Options that differ", {"option", "run", "other"}, {}};
  std::set<std::string> seen;
  for (const RunFolder* run : {&a, &b})
    for (const auto& [name, value] : run->options) {
      const std::string one = option_in(a, name), other = option_in(b, name);
      if (one == other || !seen.insert(name).second) continue;
      table.rows.push_back({name, one, other});
      lab.row({{"kind", "option"}, {"name", name}, {"run", one}, {"other", other}});
    }
  if (table.rows.empty()) lab.say("Both runs have the same options.");
  else lab.show(table);
  return std::ssize(table.rows);
}

// ---- Rows ----------------------------------------------------------------------------------------------------------
// The columns that name a row; all others are measured.
const std::set<std::string> names{"rule", "seed",      "kind",   "step", "layer",
                                  "head", "parameter", "metric", "d_k",  "scaled"};

std::string text_of(const Value& value) {
  if (const double* x = std::get_if<double>(&value)) return number(*x, 6);
  if (const std::int64_t* x = std::get_if<std::int64_t>(&value)) return std::to_string(*x);
  if (const bool* x = std::get_if<bool>(&value)) return *x ? "true" : "false";
  if (const std::string* x = std::get_if<std::string>(&value)) return *x;
  return "nan";
}

std::string key_of(const Row& row) {
  std::string key;
  for (const auto& [column, value] : row)
    if (names.contains(column)) key += (key.empty() ? "" : ", ") + column + " " + text_of(value);
  return key;
}

bool equal(const Value& a, const Value& b, double tolerance) {
  const double x = number_of(a), y = number_of(b);
  if (std::isnan(x) || std::isnan(y)) return a == b;   // texts, truth values, nan in both
  return x == y || std::abs(x - y) <= tolerance * std::max(std::abs(x), std::abs(y));
}

struct Difference { std::string row, column; Value run, other; };

// The first number of a row, in its order, that differs in the other one.
std::optional<Difference> difference(const std::string& key, const Row& row, const Row& other, double tolerance) {
  for (const auto& [column, value] : row) {
    const Value* same = names.contains(column) ? nullptr : cell(other, column);
    if (same && !equal(value, *same, tolerance)) return Difference{key, column, value, *same};
  }
  return {};
}

struct Comparison { std::optional<Difference> first; std::int64_t shared = 0; };   // rows that both runs have

Comparison compare_rows(const RunFolder& a, const RunFolder& b, double tolerance) {
  std::map<std::string, const Row*> others;
  for (const Row& row : b.rows) others.emplace(key_of(row), &row);
  std::set<std::string> seen;
  Comparison result;
  for (const Row& row : a.rows) {
    const std::string key = key_of(row);
    const auto other = others.find(key);
    if (other == others.end() || !seen.insert(key).second) continue;   // of rows with one name, the first
    ++result.shared;
    if (!result.first) result.first = difference(key, row, *other->second, tolerance);
  }
  return result;
}

// ---- Weights -------------------------------------------------------------------------------------------------------
std::set<std::string> shared_checkpoints(const RunFolder& a, const RunFolder& b) {
  std::set<std::string> shared;
  if (!fs::is_directory(a.path / "checkpoints")) return shared;
  for (const auto& entry : fs::directory_iterator(a.path / "checkpoints")) {
    const std::string file = entry.path().filename().string();
    if (file.starts_with("step-") && fs::exists(b.path / "checkpoints" / file)) shared.insert(file);
  }
  return shared;
}

bool comparable(const Tensor& x, const Tensor& y) {
  return is_floating(x.dtype()) && x.dtype() == y.dtype() && x.shape() == y.shape();
}

struct Apart { std::string first = {}, worst = {}; double distance = 0; };   // of `worst`, |difference| / |weight|

Apart compare_weights(const Parameters& x, const Parameters& y) {
  const std::map<std::string, Tensor> others(y.begin(), y.end());
  Apart apart;
  for (const auto& [name, tensor] : x) {
    const auto other = others.find(name);
    const bool optimizer = name.find('/') != std::string::npos;
    if (optimizer || other == others.end() || !comparable(tensor, other->second)) continue;
    const double distance = norm(tensor - other->second) / std::max(norm(tensor), 1e-300);
    if (distance > 0 && apart.first.empty()) apart.first = name;
    if (distance > apart.distance) apart.distance = distance, apart.worst = name;
  }
  return apart;
}

// Checkpoints of the same step, oldest first. Whether any weights differ by more than the tolerance.
bool compare_checkpoints(Lab& lab, const RunFolder& a, const RunFolder& b, double tolerance) {
  bool differ = false;
  for (const std::string& file : shared_checkpoints(a, b)) {
    const Apart apart = compare_weights(load_safetensors(a.path / "checkpoints" / file).tensors,
                                        load_safetensors(b.path / "checkpoints" / file).tensors);
    lab.row({{"kind", "weights"}, {"checkpoint", file}, {"first", apart.first}, {"worst", apart.worst},
             {"distance", apart.distance}});
    lab.say(apart.first.empty()
                ? file + ": the weights are equal, bit for bit."
                : fmt::format("{}: weights differ from {} on, most in {} (relative distance {}).", file, apart.first,
                              apart.worst, number(apart.distance)));
    differ = differ || apart.distance > tolerance;
  }
  return differ;
}

// ---- The run -------------------------------------------------------------------------------------------------------
Series loss_curve(const RunFolder& run, const std::string& kind) {
  Series series{.points = false};
  for (const Row& row : run.rows) {
    const double step = number_in(row, "step"), loss = number_in(row, "loss");
    if (text_in(row, "kind") != kind || std::isnan(step) || std::isnan(loss)) continue;
    series.x.push_back(step);
    series.y.push_back(loss);
  }
  return series;
}

void draw(Lab& lab, const Knobs& k) {
  LineChart chart{.title = "Loss", .x_label = "step", .y_label = "nats", .log_y = true};
  for (const auto& [kind, label] : {std::pair{"step", "training"}, std::pair{"validation", "held out"}})
    for (const bool other : {false, true}) {
      Series series = loss_curve(k.runs[other], kind);
      series.name = fmt::format("{}, {}", other ? k.b : k.a, label);
      series.dashed = other;
      if (!series.x.empty()) chart.series.push_back(series);
    }
  if (!chart.series.empty()) lab.draw({.name = "compare", .title = "Two runs", .panels = {chart}});
}

void run(Lab& lab, const Knobs& k) {
  for (const bool other : {false, true})
    if (const std::string& status = k.runs[other].status; status != "done" && !status.empty())
      lab.say(fmt::format("{}: this run {} {}.", other ? k.b : k.a, status == "running" ? "is still" : "was", status));
  compare_options(lab, k.runs[0], k.runs[1]);
  const Comparison rows = compare_rows(k.runs[0], k.runs[1], k.tolerance);
  lab.result("shared_rows", rows.shared);
  lab.result("parted", rows.first.has_value());
  const bool weights_differ = compare_checkpoints(lab, k.runs[0], k.runs[1], k.tolerance);
  draw(lab, k);
  if (rows.shared == 0) {
    lab.verdict("The two runs have no row in common.");
  } else if (!rows.first) {
    lab.verdict(fmt::format("All {} rows that both runs have are equal{}.", rows.shared,
                            k.tolerance > 0 ? " within the tolerance" : ", bit for bit"));
  } else {
    const Difference& first = *rows.first;
    lab.result("where", first.row);
    lab.result("column", first.column);
    lab.verdict(fmt::format("The runs first differ at {}: {} is {} and {}.", first.row, first.column,
                            text_of(first.run), text_of(first.other)));
  }
  if (rows.shared == 0 || rows.first || weights_differ) throw Findings();
}

}  // namespace

Experiment compare() {
  return {"compare",
          "Where do two runs first differ?",
          "Reads two run folders and reports the options that differ, the first row and number that differ, and the "
          "weights that differ in checkpoints of the same step. Draws both loss curves. The exit code is 3 when "
          "numbers or weights differ by more than --tolerance, or the runs have no row in common.",
          {"surgeon compare runs/one runs/two", "surgeon compare runs/one runs/two --json"},
          knobs<Knobs>(options, run),
          false};
}

}  // namespace surgeon::experiments
