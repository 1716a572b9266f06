// A run folder read back: the options of a run and the rows that it measured.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "experiments/lab.hpp"

namespace surgeon {

struct RunFolder {
  std::filesystem::path path;
  std::string status = {};   // "done", "failed", "running"; "aborted", also of a run whose process is gone; "" unknown
  std::vector<std::pair<std::string, std::string>> options = {};   // name and value, as JSON writes it
  std::vector<Row> rows = {};                                      // in the order in which they were measured
};

// UsageError when `path` is not a run folder; IoError when its files are damaged or not made by surgeon.
RunFolder read_run(const std::filesystem::path& path);
// The rows of a metrics.jsonl, up to the first line that is not whole: a killed run may end in the middle of one.
std::vector<Row> read_rows(const std::filesystem::path& metrics);

// A cell of a row: nullptr, nan and "" when there is no such column, or it holds something else.
const Value* cell(const Row& row, const std::string& column);
double number_of(const Value& value);
double number_in(const Row& row, const std::string& column);
std::string text_in(const Row& row, const std::string& column);

}  // namespace surgeon
