// Every panel with two axes as one thing, a Chart; and what its axes span.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "experiments/figures.hpp"

namespace surgeon {

enum class Mark { line, point, bar };

// A line chart whose series are drawn as `mark`. Of a bar i of series s, ends[s][i] are its left and right.
struct Chart : LineChart {
  Mark mark = Mark::line;
  std::vector<std::vector<std::pair<double, double>>> ends = {};
  std::vector<std::string> names = {};   // of the places 0, 1, 2, ... on the x axis
};
Chart chart_of(const LineChart&);
Chart chart_of(const Scatter&);
Chart chart_of(const Bars&);
Chart chart_of(const Histogram&);

bool can_show(const Chart& chart, double x, double y);   // both finite, and above 0 on a logarithmic axis
bool has_band(const Series& series);                     // or error bars

// ---- Axes ----------------------------------------------------------------------------------------------------------
struct Tick { double at = 0; std::string text = {}; };

struct Axis {
  bool log = false;
  double low = 0, high = 1;
  std::vector<Tick> ticks = {};
};
struct Axes { Axis x = {}, y = {}; };
// Room for every point, band and reference line that can be shown, on a plot of this size in pixels, with as many ticks
// as their words leave room for.
Axes axes_of(const Chart& chart, double width, double height);

std::vector<Tick> round_numbers(double low, double high, int most);   // at even distances

}  // namespace surgeon
