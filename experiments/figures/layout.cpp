#include "experiments/figures/layout.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include <fmt/format.h>

#include "experiments/format.hpp"

namespace surgeon {
namespace {

// ---- Boxes ---------------------------------------------------------------------------------------------------------
Box box_of(const LineChart& chart) {
  std::size_t named = 0;
  for (const Series& s : chart.series) named += !s.name.empty();
  const double legend = 22.0 * double(named);
  return {76, 22, chart.title.empty() ? 12.0 : 34.0, 60 + legend, 380, 250};
}

Box box_of(const Heatmap& map) {
  const std::size_t rows = map.values.size(), columns = columns_of(map);
  const double most = double(std::max({rows, columns, std::size_t{1}}));
  const double cell = std::clamp((map.decimals > 0 ? 330.0 : 270.0) / most, map.decimals > 0 ? 34.0 : 12.0, 62.0);
  const double x_text = text_width(x_ticks_of(map)), y_text = text_width(y_ticks_of(map));
  const double below = fits(x_text, cell) ? 18 : 8 + 0.75 * x_text;
  return {(map.y_label.empty() ? 14 : 44) + y_text,
          map.bar_label.empty() ? 14.0 : 88.0,
          map.title.empty() ? 12.0 : 34.0,
          (map.x_label.empty() ? 12 : 32) + below,
          cell * double(columns),
          cell * double(rows)};
}

std::vector<std::string> filled_up(std::vector<std::string> ticks, std::size_t n) {
  for (std::size_t i = ticks.size(); i < n; ++i) ticks.push_back(std::to_string(i));
  return ticks;
}

// ---- Axes ----------------------------------------------------------------------------------------------------------
std::string superscript(int n) {
  static const char* digits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string text = n < 0 ? "⁻" : "";
  for (char c : std::to_string(std::abs(n))) text += digits[c - '0'];
  return text;
}

struct Extent {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  bool empty() const { return low > high; }
  void add(double value) { low = std::min(low, value), high = std::max(high, value); }
};

Extent heights_of(const LineChart& chart) {
  Extent y;
  for (const Series& s : chart.series)
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      if (!can_show(chart, s.x[i], s.y[i])) continue;
      y.add(s.y[i]);
      if (i < s.high.size() && std::isfinite(s.high[i])) y.add(s.high[i]);
      if (i < s.low.size() && can_show(chart, s.x[i], s.low[i])) y.add(s.low[i]);
    }
  for (const ReferenceLine& r : chart.references)
    if (can_show(chart, 1, r.y)) y.add(r.y);
  return y;
}

std::set<double> places_of(const LineChart& chart) {
  std::set<double> xs;
  for (const Series& s : chart.series)
    for (std::size_t i = 0; i < s.x.size(); ++i)
      if (can_show(chart, s.x[i], s.y[i])) xs.insert(s.x[i]);
  return xs;
}

Axis x_axis(const LineChart& chart) {
  const std::set<double> xs = places_of(chart);
  if (xs.empty()) return {};
  Axis axis{.log = chart.log_x};
  const double a = *xs.begin(), b = *xs.rbegin();
  const double pad = axis.log ? (a < b ? std::pow(b / a, 0.04) : 2) : (a < b ? (b - a) * 0.03 : 1);
  axis.low = axis.log ? a / pad : a - pad;
  axis.high = axis.log ? b * pad : b + pad;
  std::vector<double> marks = chart.x_ticks;
  if (marks.empty() && axis.log && xs.size() <= 9) marks.assign(xs.begin(), xs.end());
  for (const double x : marks) axis.ticks.push_back({x, fmt::format("{:.10g}", x)});
  return axis;
}

// Powers of ten, at most about seven.
std::vector<Tick> decades(double low, double high) {
  const int first = int(std::floor(std::log10(low))), last = int(std::ceil(std::log10(high)));
  const int every = std::max(1, (last - first + 6) / 7);
  std::vector<Tick> ticks;
  for (int e = first; e <= last; e += every) ticks.push_back({std::pow(10.0, e), "10" + superscript(e)});
  return ticks;
}

// Where fewer than two powers of ten would be seen: round numbers at even distances, three to seven of them.
std::vector<Tick> round_numbers(double low, double high) {
  const double rough = (high - low) / 3, unit = std::pow(10.0, std::floor(std::log10(rough)));
  const double step = unit * (rough >= 5 * unit ? 5 : rough >= 2 * unit ? 2 : 1);
  std::vector<Tick> ticks;
  for (double k = std::ceil(low / step); k * step <= high; ++k)
    ticks.push_back({k * step, fmt::format("{:.6g}", k * step)});
  return ticks;
}

std::vector<Tick> log_ticks(const Extent& y, const Axis& axis) {
  const std::vector<Tick> powers = decades(y.low, y.high);
  const auto seen = std::count_if(powers.begin(), powers.end(),
                                  [&](const Tick& t) { return t.at >= axis.low && t.at <= axis.high; });
  return seen >= 2 ? powers : round_numbers(axis.low, axis.high);
}

Axis y_axis(const LineChart& chart) {
  const Extent y = heights_of(chart);
  if (y.empty()) return {};
  if (chart.log_y) {
    const double pad = std::pow(std::max(y.high / y.low, 1.5), 0.06);
    Axis axis{.log = true, .low = y.low / pad, .high = y.high * pad};
    axis.ticks = log_ticks(y, axis);
    return axis;
  }
  const double pad = y.high > y.low ? 0.06 * (y.high - y.low) : std::max(std::abs(y.high) * 0.1, 0.1);
  return {.low = std::isnan(chart.y_low) ? y.low - pad : chart.y_low,
          .high = std::isnan(chart.y_high) ? y.high + pad : chart.y_high};
}

}  // namespace

Sheet sheet_of(const Figure& figure) {
  Sheet sheet;
  const int n = int(figure.panels.size());
  sheet.columns = figure.columns > 0 ? std::min(figure.columns, std::max(n, 1)) : std::max(n, 1);
  sheet.column.resize(std::size_t(sheet.columns), Box{});
  sheet.row.resize(std::size_t((n + sheet.columns - 1) / sheet.columns), Box{});
  for (int i = 0; i < n; ++i) {
    const Box b = std::visit([](const auto& p) { return box_of(p); }, figure.panels[std::size_t(i)]);
    Box& column = sheet.column[std::size_t(i % sheet.columns)];
    Box& row = sheet.row[std::size_t(i / sheet.columns)];
    column.left = std::max(column.left, b.left);
    column.right = std::max(column.right, b.right);
    column.width = std::max(column.width, b.width);
    row.top = std::max(row.top, b.top);
    row.bottom = std::max(row.bottom, b.bottom);
    row.height = std::max(row.height, b.height);
  }
  sheet.title = figure.title.empty() ? 4 : 36;
  for (const Box& b : sheet.column) sheet.width += b.left + b.width + b.right;
  sheet.width = std::max(sheet.width, 30 + 9.5 * double(letters_in(figure.title)));
  sheet.height = sheet.title;
  for (const Box& b : sheet.row) sheet.height += b.top + b.height + b.bottom;
  return sheet;
}

Place place_of(const Sheet& sheet, int panel) {
  const std::size_t at_column = std::size_t(panel % sheet.columns), at_row = std::size_t(panel / sheet.columns);
  double x = 0, y = sheet.title;
  for (std::size_t c = 0; c < at_column; ++c) {
    const Box& b = sheet.column[c];
    x += b.left + b.width + b.right;
  }
  for (std::size_t r = 0; r < at_row; ++r) {
    const Box& b = sheet.row[r];
    y += b.top + b.height + b.bottom;
  }
  const Box &column = sheet.column[at_column], &row = sheet.row[at_row];
  const double outer = x;
  x += column.left;
  y += row.top;
  return {x / sheet.width,  (x + column.width) / sheet.width, 1 - y / sheet.height, 1 - (y + row.height) / sheet.height,
          1 / sheet.width, 1 / sheet.height, outer / sheet.width};
}

Axes axes_of(const LineChart& chart) { return {x_axis(chart), y_axis(chart)}; }

bool can_show(const LineChart& chart, double x, double y) {
  return std::isfinite(x) && std::isfinite(y) && !(chart.log_x && x <= 0) && !(chart.log_y && y <= 0);
}

bool has_band(const Series& s) { return !s.x.empty() && s.low.size() == s.x.size() && s.high.size() == s.x.size(); }

std::size_t columns_of(const Heatmap& map) { return map.values.empty() ? 0 : map.values.front().size(); }

std::vector<std::string> x_ticks_of(const Heatmap& map) { return filled_up(map.x_ticks, columns_of(map)); }

std::vector<std::string> y_ticks_of(const Heatmap& map) { return filled_up(map.y_ticks, map.values.size()); }

double text_width(const std::vector<std::string>& texts) {
  std::size_t most = 0;
  for (const std::string& text : texts) most = std::max(most, letters_in(text));
  return 7.2 * double(most);
}

bool fits(double text, double cell) { return text <= cell * 0.95; }

}  // namespace surgeon
