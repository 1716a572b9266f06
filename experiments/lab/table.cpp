// Rows, statistics over seeds, and tables.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "experiments/figures.hpp"
#include "experiments/lab/text.hpp"
#include "framework/diagnostics.hpp"

namespace surgeon {
namespace {

double geometric_mean(const std::vector<double>& sorted) {
  if (sorted.front() < 0) return std::nan("");
  if (sorted.front() == 0) return 0;
  double logs = 0;
  for (double x : sorted) logs += std::log(x);
  return std::exp(logs / double(sorted.size()));
}

std::string padded(const std::string& text, std::size_t to, bool left) {
  const std::string space(to > letters_in(text) ? to - letters_in(text) : 0, ' ');
  return left ? text + space : space + text;
}

struct Column { std::size_t width = 0; bool left = false; };

// Numbers line up on the right, words and the first column on the left.
std::vector<Column> columns_of(const Table& table) {
  std::vector<Column> columns;
  auto measure = [&](const std::vector<std::string>& cells, bool body) {
    columns.resize(std::max(columns.size(), cells.size()));
    for (std::size_t c = 0; c < cells.size(); ++c) {
      columns[c].width = std::max(columns[c].width, letters_in(cells[c]));
      const char first = cells[c].empty() ? '0' : cells[c][0];
      const bool number = cells[c] == "nan" || cells[c] == "inf" || !(std::isalpha(first) || first == '[');
      columns[c].left = columns[c].left || c == 0 || (body && !number);
    }
  };
  measure(table.header, false);
  for (const auto& row : table.rows) measure(row, true);
  return columns;
}

// The first column and columns [begin, end) of a table.
std::string block(const Table& table, const std::vector<Column>& columns, std::size_t begin, std::size_t end,
                  const Paint& paint) {
  auto line = [&](const std::vector<std::string>& cells) {
    std::string text = "  " + padded(cells.empty() ? "" : cells[0], columns[0].width, true);
    for (std::size_t c = begin; c < end; ++c)
      text += "  " + padded(c < cells.size() ? cells[c] : "", columns[c].width, columns[c].left);
    return text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
  };
  std::string text;
  if (!table.header.empty()) {
    std::size_t total = columns[0].width;
    for (std::size_t c = begin; c < end; ++c) total += columns[c].width + 2;
    text += paint.bold(line(table.header)) + "  " + paint.dim(std::string(total, '-')) + "\n";
  }
  for (const auto& row : table.rows) text += row.empty() ? "\n" : line(row);
  return text;
}

// Where the parts of a table end that fit in 80 columns, with at most so many columns besides the first.
std::vector<std::size_t> parts_of(const std::vector<Column>& columns, std::size_t most) {
  std::vector<std::size_t> ends;
  std::size_t begin = 1;
  do {
    std::size_t end = begin, total = 2 + columns[0].width;
    while (end < columns.size() && (end == begin || (end - begin < most && total + 2 + columns[end].width <= 80)))
      total += 2 + columns[end++].width;
    ends.push_back(begin = end);
  } while (begin < columns.size());
  return ends;
}

}  // namespace

Statistics statistics(std::span<const double> values) {
  const double nan = std::nan("");
  Statistics s{std::int64_t(values.size()), nan, nan, nan, nan, nan, nan};
  if (values.empty() || std::any_of(values.begin(), values.end(), [](double x) { return std::isnan(x); })) return s;
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const double n = double(sorted.size());
  s.mean = std::accumulate(sorted.begin(), sorted.end(), 0.0) / n;
  double squares = 0;
  for (double x : sorted) squares += (x - s.mean) * (x - s.mean);
  if (n > 1) s.se = std::sqrt(squares / (n - 1) / n);
  s.median = median(sorted);
  s.geomean = geometric_mean(sorted);
  s.p05 = quantile(sorted, 0.05);
  s.p95 = quantile(sorted, 0.95);
  return s;
}

Row operator+(Row row, const Statistics& s) {
  return std::move(row) + Row{{"n", s.n},           {"mean", s.mean}, {"se", s.se}, {"median", s.median},
                              {"geomean", s.geomean}, {"p05", s.p05},   {"p95", s.p95}};
}

Row operator+(Row row, const Row& more) {
  row.insert(row.end(), more.begin(), more.end());
  return row;
}

Table table_of(const Heatmap& map, const std::string& title) {
  const std::size_t columns = map.values.empty() ? 0 : map.values.front().size();
  const auto name = [](const std::vector<std::string>& ticks, std::size_t i) {
    return i < ticks.size() ? ticks[i] : std::to_string(i);
  };
  Table table{title, {""}, {}};
  for (std::size_t c = 0; c < columns; ++c) table.header.push_back(name(map.x_ticks, c));
  for (std::size_t r = 0; r < map.values.size(); ++r) {
    table.rows.push_back({name(map.y_ticks, r)});
    for (double v : map.values[r]) table.rows.back().push_back(fixed(v, map.decimals < 0 ? 2 : map.decimals));
  }
  return table;
}

namespace {

Table without_actions(Table table) {
  table.title = printable_lines(table.title);
  for (std::string& cell : table.header) cell = printable(cell);
  for (auto& row : table.rows)
    for (std::string& cell : row) cell = printable(cell);
  return table;
}

}  // namespace

std::string render(const Table& raw, const Paint& paint) {
  const Table table = without_actions(raw);
  const std::vector<Column> columns = columns_of(table);
  std::string text = table.title.empty() ? "" : wrap(table.title) + "\n";
  if (columns.empty()) return text;
  // What does not fit in 80 columns goes below, with the first column again; about as many columns in each part.
  const std::size_t parts = std::max<std::size_t>(parts_of(columns, columns.size()).size(), 1);
  std::size_t begin = 1;
  for (const std::size_t end : parts_of(columns, (columns.size() - 1 + parts - 1) / parts)) {
    if (begin > 1) text += "\n";
    text += block(table, columns, begin, end, paint);
    begin = end;
  }
  return text;
}

}  // namespace surgeon
