// What the reader sees of numbers: statistics over seeds, numbers with as many digits as they deserve, tables.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "experiments/lab/text.hpp"

namespace surgeon {
namespace {

double percentile(const std::vector<double>& sorted, double p) {
  const double place = p * double(sorted.size() - 1);
  const std::size_t below = std::size_t(place);
  if (below + 1 >= sorted.size()) return sorted.back();
  return std::lerp(sorted[below], sorted[below + 1], place - double(below));
}

double geometric_mean(const std::vector<double>& sorted) {
  if (sorted.front() < 0) return std::nan("");
  if (sorted.front() == 0) return 0;
  double logs = 0;
  for (double x : sorted) logs += std::log(x);
  return std::exp(logs / double(sorted.size()));
}

int exponent_of(double x) { return x == 0 ? 0 : int(std::floor(std::log10(std::abs(x)))); }

bool wants_exponent(double x) { return x != 0 && (std::abs(x) < 1e-4 || std::abs(x) >= 1e6); }

// Columns of UTF-8 text, near enough for what is printed here: bytes that do not continue a character.
std::size_t width(const std::string& text) {
  return std::size_t(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string padded(const std::string& text, std::size_t to, bool left) {
  const std::string space(to > width(text) ? to - width(text) : 0, ' ');
  return left ? text + space : space + text;
}

struct Column { std::size_t width = 0; bool left = false; };

// Numbers line up on the right, words and the first column on the left.
std::vector<Column> columns_of(const Table& table) {
  std::vector<Column> columns;
  auto measure = [&](const std::vector<std::string>& cells, bool body) {
    columns.resize(std::max(columns.size(), cells.size()));
    for (std::size_t c = 0; c < cells.size(); ++c) {
      columns[c].width = std::max(columns[c].width, width(cells[c]));
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
  s.median = percentile(sorted, 0.5);
  s.geomean = geometric_mean(sorted);
  s.p05 = percentile(sorted, 0.05);
  s.p95 = percentile(sorted, 0.95);
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

std::string number(double x, int digits) {
  if (!std::isfinite(x)) return fmt::format("{}", x);
  if (x == 0) return "0";
  if (wants_exponent(x)) return fmt::format("{:.{}e}", x, std::max(digits - 2, 0));
  const int decimals = std::max(0, digits - 1 - exponent_of(x));
  return fmt::format("{:.{}f}", x, decimals);
}

std::string fixed(double x, int decimals) {
  const std::string text = fmt::format("{:.{}f}", x, decimals);
  return text.find_first_not_of("-0.") == std::string::npos ? fmt::format("{:.{}f}", 0.0, decimals) : text;
}

std::string with_error(double mean, double se) {
  if (!std::isfinite(mean) || !std::isfinite(se) || se <= 0) return number(mean, 4);
  const bool scaled = wants_exponent(mean);
  const int shift = scaled ? exponent_of(std::max(std::abs(mean), se)) : 0;
  const double unit = std::pow(10.0, shift);
  int decimals = std::max(0, -exponent_of(se / unit));
  double last = std::round(se / unit * std::pow(10.0, decimals));   // the error in units of the last digit
  if (last >= 10 && decimals > 0) {
    last = 1;   // 9.6 rounds up to the next digit
    --decimals;
  }
  std::string text = fmt::format("{:.{}f}({:.0f})", mean / unit, decimals, last);
  return scaled ? text + fmt::format("e{:+03d}", shift) : text;
}

std::string render(const Table& table, const Paint& paint) {
  const std::vector<Column> columns = columns_of(table);
  std::string text = table.title.empty() ? "" : wrap(table.title) + "\n";
  if (columns.empty()) return text;
  // What does not fit in 80 columns goes below, with the first column again.
  for (std::size_t begin = 1; begin < columns.size() || begin == 1;) {
    std::size_t end = begin, total = 2 + columns[0].width;
    while (end < columns.size() && (end == begin || total + 2 + columns[end].width <= 80))
      total += 2 + columns[end++].width;
    if (begin > 1) text += "\n";
    text += block(table, columns, begin, end, paint);
    begin = std::max(end, begin + 1);
  }
  return text;
}

std::string wrap(const std::string& text, std::size_t indent) {
  std::string result, line(indent, ' ');
  bool fresh = true;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '\n') {
      result += line + "\n";
      line.assign(indent, ' ');
      fresh = true;
      ++i;
      continue;
    }
    const std::size_t end = std::min(text.find_first_of(" \n", i), text.size());
    const std::string word = text.substr(i, end - i);
    if (!fresh && width(line) + 1 + width(word) > 80) {
      result += line + "\n";
      line.assign(indent, ' ');
      fresh = true;
    }
    if (!fresh) line += ' ';
    line += word;
    fresh = false;
    i = end < text.size() && text[end] == ' ' ? end + 1 : end;
  }
  return result + line;
}

std::string nearest(const std::string& typed, const std::vector<std::string>& names) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, typed.size() / 3) + 1;
  for (const std::string& name : names) {
    std::vector<std::size_t> row(name.size() + 1);   // Levenshtein's distance, one row at a time
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < typed.size(); ++i) {
      std::size_t diagonal = std::exchange(row[0], i + 1);
      for (std::size_t k = 0; k < name.size(); ++k) {
        const std::size_t replaced = diagonal + (typed[i] != name[k]);
        diagonal = std::exchange(row[k + 1], std::min({replaced, row[k] + 1, row[k + 1] + 1}));
      }
    }
    const bool starts = typed.size() > 1 && name.starts_with(typed);
    const std::size_t distance = starts ? 1 : row.back();
    if (distance < best_distance && distance < name.size()) {
      best_distance = distance;
      best = name;
    }
  }
  return best;
}

std::string did_you_mean(const std::string& typed, const std::vector<std::string>& names) {
  const std::string name = nearest(typed, names);
  return name.empty() ? "" : fmt::format("; did you mean {}?", name);
}

}  // namespace surgeon
