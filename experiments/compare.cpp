// surgeon compare RUN RUN: where two runs part: options, rows in order, weights in their checkpoints.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "experiments/figures.hpp"
#include "experiments/lab.hpp"
#include "framework/diagnostics.hpp"
#include "framework/ops.hpp"
#include "framework/serialize.hpp"

namespace surgeon::experiments {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct Knobs {
  std::string a = {}, b = {};
  double tolerance = 0.0;
};

void options(Options& o, Knobs& k) {
  o.add("run", k.a, "a run folder", {.required = true});
  o.add("other", k.b, "another", {.required = true});
  o.add("--tolerance", k.tolerance, "numbers this near, relative to the larger, are equal", {.low = 0, .high = 1});
}

Json read_json(const fs::path& path) {
  std::ifstream file(path);
  if (!file) throw UsageError(fmt::format("{} is no run folder: it has no config.json", path.parent_path().string()));
  Json json = Json::parse(file, nullptr, false);
  if (json.is_discarded()) throw std::runtime_error(fmt::format("{} is not JSON", path.string()));
  return json;
}

// What names a row; everything else in it is measured.
const std::set<std::string> names{"rule", "seed",      "kind",   "step", "layer",
                                  "head", "parameter", "metric", "d_k",  "scaled"};

std::string text_of(const Json& value) {
  if (value.is_number_float()) return number(value.get<double>(), 6);
  return value.is_string() ? value.get<std::string>() : value.dump();
}

struct RunFolder {
  explicit RunFolder(const std::string& asked) : path(asked), config(read_json(path / "config.json")) {
    std::ifstream file(path / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      Json row = Json::parse(line, nullptr, false);
      if (row.is_discarded()) break;   // cut off by a kill
      std::string key;
      for (const auto& [name, value] : row.items())
        if (names.contains(name)) key += (key.empty() ? "" : ", ") + name + " " + text_of(value);
      if (places.emplace(key, rows.size()).second) rows.emplace_back(key, std::move(row));
    }
  }
  const Json* find(const std::string& key) const {
    const auto place = places.find(key);
    return place == places.end() ? nullptr : &rows[place->second].second;
  }

  fs::path path;
  Json config;
  std::vector<std::pair<std::string, Json>> rows;   // in the order in which they were measured
  std::map<std::string, std::size_t> places;
};

bool equal(const Json& a, const Json& b, double tolerance) {
  if (!a.is_number() || !b.is_number()) return a == b;
  const double x = a.get<double>(), y = b.get<double>();
  return x == y || std::abs(x - y) <= tolerance * std::max(std::abs(x), std::abs(y));
}

void compare_options(Lab& lab, const RunFolder& a, const RunFolder& b) {
  const Json x = a.config.value("options", Json::object()), y = b.config.value("options", Json::object());
  Table table{"Options that differ", {"option", "run", "other"}, {}};
  const auto add = [&](const std::string& name) {
    const Json one = x.value(name, Json()), two = y.value(name, Json());
    if (one == two) return;
    table.rows.push_back({name, text_of(one), text_of(two)});
    lab.row({{"kind", "option"}, {"name", name}, {"run", text_of(one)}, {"other", text_of(two)}});
  };
  for (const auto& [name, value] : x.items()) add(name);
  for (const auto& [name, value] : y.items())
    if (!x.contains(name)) add(name);
  if (table.rows.empty()) lab.say("Both runs have the same options.");
  else lab.show(table);
}

struct Part { std::string where = {}, column = {}; Json run = {}, other = {}; };

// The first row, in the first run's order, that differs; and how many rows both have.
std::pair<Part, std::int64_t> first_difference(const RunFolder& a, const RunFolder& b, double tolerance) {
  Part part;
  std::int64_t shared = 0;
  for (const auto& [key, row] : a.rows) {
    const Json* other = b.find(key);
    if (!other) continue;
    ++shared;
    for (const auto& [column, value] : row.items()) {
      if (!part.where.empty() || names.contains(column) || !other->contains(column)) continue;
      if (!equal(value, (*other)[column], tolerance)) part = {key, column, value, (*other)[column]};
    }
  }
  return {part, shared};
}

Series loss_curve(const RunFolder& run, const char* kind, const std::string& name, bool dashed) {
  Series series{.name = name, .dashed = dashed, .points = false};
  for (const auto& [key, row] : run.rows)
    if (row.value("kind", "") == kind && row.contains("loss") && row["loss"].is_number() && row.contains("step")) {
      series.x.push_back(row["step"].get<double>());
      series.y.push_back(row["loss"].get<double>());
    }
  return series;
}

// Checkpoints of the same step, oldest first.
void compare_weights(Lab& lab, const RunFolder& a, const RunFolder& b) {
  std::set<std::string> shared;
  if (fs::is_directory(a.path / "checkpoints"))
    for (const auto& entry : fs::directory_iterator(a.path / "checkpoints")) {
      const std::string file = entry.path().filename().string();
      if (file.starts_with("step-") && fs::exists(b.path / "checkpoints" / file)) shared.insert(file);
    }
  for (const std::string& file : shared) {
    const Parameters x = load_safetensors(a.path / "checkpoints" / file).tensors;
    const Parameters y = load_safetensors(b.path / "checkpoints" / file).tensors;
    std::map<std::string, Tensor> other(y.begin(), y.end());
    std::string first;
    double worst = 0;
    std::string worst_name;
    for (const auto& [name, tensor] : x) {
      const auto found = other.find(name);
      const bool comparable = found != other.end() && is_floating(tensor.dtype()) &&
                              found->second.shape() == tensor.shape() && found->second.dtype() == tensor.dtype();
      if (name.find('/') != std::string::npos || !comparable) continue;   // the optimizer's
      const double apart = norm(tensor - found->second) / std::max(norm(tensor), 1e-300);
      if (apart > 0 && first.empty()) first = name;
      if (apart > worst) worst = apart, worst_name = name;
    }
    lab.row({{"kind", "weights"}, {"checkpoint", file}, {"first", first}, {"worst", worst_name}, {"distance", worst}});
    lab.say(first.empty() ? fmt::format("{}: the weights are the same bit for bit.", file)
                          : fmt::format("{}: weights differ from {} on; most apart is {}, by {} of its norm.", file,
                                        first, worst_name, number(worst)));
  }
}

void run(Lab& lab, const Knobs& k) {
  const RunFolder a(k.a), b(k.b);
  compare_options(lab, a, b);
  const auto [part, shared] = first_difference(a, b, k.tolerance);
  lab.result("shared_rows", shared);
  lab.result("parted", !part.where.empty());
  compare_weights(lab, a, b);
  LineChart chart{.title = "Loss", .x_label = "step", .y_label = "nats", .log_y = true};
  for (const auto& [kind, label] : {std::pair{"step", "training"}, std::pair{"validation", "held out"}})
    for (const RunFolder* folder : {&a, &b}) {
      const std::string name = fmt::format("{}, {}", folder == &a ? k.a : k.b, label);
      Series series = loss_curve(*folder, kind, name, folder == &b);
      if (!series.x.empty()) chart.series.push_back(series);
    }
  if (!chart.series.empty()) lab.draw({.name = "compare", .title = "Two runs", .panels = {chart}});
  if (shared == 0) {
    lab.verdict("The two runs measured nothing in common.");
  } else if (part.where.empty()) {
    lab.verdict(fmt::format("All {} rows that both runs have are equal{}.", shared,
                            k.tolerance > 0 ? " within the tolerance" : " bit for bit"));
  } else {
    lab.result("where", part.where);
    lab.result("column", part.column);
    lab.verdict(fmt::format("They part at {}: {} is {} in {} and {} in {}.", part.where, part.column,
                            text_of(part.run), k.a, text_of(part.other), k.b));
  }
}

}  // namespace

Experiment compare() {
  return {"compare",
          "Where do two runs part?",
          "Reads two run folders: the options that differ, the first row and number that differ, and the first weights "
          "that differ in checkpoints of the same step. Draws both loss curves.",
          {"surgeon compare runs/one runs/two", "surgeon compare runs/one runs/two --json"},
          knobs<Knobs>(options, run),
          false};
}

}  // namespace surgeon::experiments
