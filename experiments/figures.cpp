// The numbers behind a figure, as CSV. gnuplot.cpp draws it.
#include "experiments/figures.hpp"

#include <cmath>

#include <fmt/format.h>

#include "experiments/figures/layout.hpp"
#include "experiments/format.hpp"

namespace surgeon {
namespace {

std::string plain(double x) { return std::isnan(x) ? "" : fmt::format("{}", x); }
std::string plain(const std::vector<double>& x, std::size_t i) { return i < x.size() ? plain(x[i]) : ""; }

std::string data_of(const LineChart& chart) {
  std::string text;
  for (const Series& s : chart.series)
    for (std::size_t i = 0; i < s.x.size(); ++i)
      text += fmt::format("{},{},{},,{},{},{}\n", csv_field(chart.title), csv_field(s.name), plain(s.x[i]),
                          plain(s.y[i]), plain(s.low, i), plain(s.high, i));
  for (const ReferenceLine& r : chart.references)
    text += fmt::format("{},{},,,{},,\n", csv_field(chart.title), csv_field(r.label), plain(r.y));
  return text;
}

std::string data_of(const Heatmap& map) {
  const std::vector<std::string> x = x_ticks_of(map), y = y_ticks_of(map);
  std::string text;
  for (std::size_t r = 0; r < map.values.size(); ++r)
    for (std::size_t c = 0; c < map.values[r].size(); ++c)
      text += fmt::format("{},,{},{},{},,\n", csv_field(map.title), csv_field(x[c]), csv_field(y[r]),
                          plain(map.values[r][c]));
  return text;
}

}  // namespace

std::string figure_data(const Figure& figure) {
  std::string text = "panel,series,x,y,value,low,high\n";
  for (const Panel& panel : figure.panels) text += std::visit([](const auto& p) { return data_of(p); }, panel);
  return text;
}

}  // namespace surgeon
