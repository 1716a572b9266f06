// The numbers behind a figure, as CSV. figures/gnuplot.cpp draws it.
#include "experiments/figures.hpp"

#include <cmath>

#include <fmt/format.h>

#include "experiments/figures/layout.hpp"
#include "experiments/format.hpp"

namespace surgeon {
namespace {

std::string plain(double x) { return std::isnan(x) ? "" : fmt::format("{}", x); }
std::string plain(const std::vector<double>& x, std::size_t i) { return i < x.size() ? plain(x[i]) : ""; }

std::string name_at(const std::vector<std::string>& names, std::size_t i) {
  return i < names.size() ? csv_field(names[i]) : std::to_string(i);
}

std::string data_of(const Chart& chart) {
  std::string text;
  const std::string title = csv_field(chart.title.words);
  for (std::size_t k = 0; k < chart.series.size(); ++k) {
    const Series& s = chart.series[k];
    const bool bins = chart.mark == Mark::bar && chart.names.empty();
    for (std::size_t i = 0; i < s.x.size(); ++i)
      text += fmt::format("{},{},{},,{},{},{}\n", title, csv_field(s.name.words),
                          chart.names.empty() ? plain(s.x[i]) : name_at(chart.names, i), plain(s.y[i]),
                          bins ? plain(chart.ends[k][i].first) : plain(s.low, i),
                          bins ? plain(chart.ends[k][i].second) : plain(s.high, i));
  }
  for (const ReferenceLine& r : chart.references)
    text += fmt::format("{},{},,,{},,\n", title, csv_field(r.label.words), plain(r.y));
  return text;
}
template <class P>
std::string data_of(const P& panel) { return data_of(chart_of(panel)); }

std::string data_of(const Heatmap& map) {
  std::string text;
  for (std::size_t r = 0; r < map.values.size(); ++r)
    for (std::size_t c = 0; c < map.values[r].size(); ++c)
      text += fmt::format("{},,{},{},{},,\n", csv_field(map.title.words), name_at(map.x_ticks, c),
                          name_at(map.y_ticks, r), plain(map.values[r][c]));
  return text;
}

}  // namespace

std::string figure_data(const Figure& figure) {
  std::string text = "panel,series,x,y,value,low,high\n";
  for (const Panel& panel : figure.panels) text += std::visit([](const auto& p) { return data_of(p); }, panel);
  return text;
}

}  // namespace surgeon
