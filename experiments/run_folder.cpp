#include "experiments/run_folder.hpp"

#include <cmath>
#include <optional>
#include <sstream>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "framework/errors.hpp"
#include "framework/serialize.hpp"

namespace surgeon {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int deepest = 16;   // surgeon nests three deep; what takes JSON apart recurses

// Nothing when the text is not JSON, or is nested deeper than any file of ours.
std::optional<Json> parsed(const std::string& text) {
  struct TooDeep {};
  const auto shallow = [](int depth, Json::parse_event_t, Json&) { return depth <= deepest ? true : throw TooDeep(); };
  try {
    Json json = Json::parse(text, shallow, false);
    if (!json.is_discarded()) return json;
  } catch (const TooDeep&) {
  }
  return {};
}

Value value_of(const Json& json) {
  switch (json.type()) {
    case Json::value_t::boolean: return json.get<bool>();
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned: return json.get<std::int64_t>();
    case Json::value_t::number_float: return json.get<double>();
    case Json::value_t::string: return json.get<std::string>();
    default: return nullptr;   // null stands for nan and infinity
  }
}

constexpr std::uint64_t largest = 1 << 24, largest_metrics = 1 << 30;   // bytes; of a config.json or meta.json

std::string status_of(const fs::path& folder) {
  std::error_code unknown;
  if (!fs::exists(folder / "meta.json", unknown)) return {};
  const std::optional<Json> meta = parsed(read_file(folder / "meta.json", largest));
  if (!meta || !meta->is_object() || !meta->contains("status") || !meta->at("status").is_string()) return {};
  const std::string status = meta->at("status").get<std::string>();
  return status == "running" && !run_is_going_on(folder) ? "aborted" : status;
}

}  // namespace

std::vector<Row> read_rows(const fs::path& metrics) {
  std::vector<Row> rows;
  std::error_code unknown;
  if (!fs::exists(metrics, unknown)) return rows;
  std::istringstream lines(read_file(metrics, largest_metrics));
  for (std::string line; std::getline(lines, line);) {
    const std::optional<Json> json = parsed(line);
    if (!json || !json->is_object()) break;
    Row row;
    for (const auto& [name, value] : json->items()) row.emplace_back(name, value_of(value));
    rows.push_back(std::move(row));
  }
  return rows;
}

RunFolder read_run(const fs::path& path) {
  const fs::path config = path / "config.json";
  std::error_code unknown;
  if (!fs::exists(config, unknown))
    throw UsageError(fmt::format("{} is not a run folder: it has no config.json", path.string()));
  const std::optional<Json> json = parsed(read_file(config, largest));
  if (!json || !json->is_object()) throw IoError(config.string() + ": not the config.json of a run");
  RunFolder run{.path = path, .status = status_of(path), .rows = read_rows(path / "metrics.jsonl")};
  const auto options = json->find("options");
  if (options == json->end() || !options->is_object()) return run;
  for (const auto& [name, value] : options->items())
    run.options.emplace_back(name, value.dump(-1, ' ', false, Json::error_handler_t::replace));
  return run;
}

const Value* cell(const Row& row, const std::string& column) {
  for (const auto& [name, value] : row)
    if (name == column) return &value;
  return nullptr;
}

double number_of(const Value& value) {
  if (const double* x = std::get_if<double>(&value)) return *x;
  if (const std::int64_t* x = std::get_if<std::int64_t>(&value)) return double(*x);
  return std::nan("");
}

double number_in(const Row& row, const std::string& column) {
  const Value* value = cell(row, column);
  return value ? number_of(*value) : std::nan("");
}

std::string text_in(const Row& row, const std::string& column) {
  const Value* value = cell(row, column);
  const std::string* text = value ? std::get_if<std::string>(value) : nullptr;
  return text ? *text : "";
}

}  // namespace surgeon
