// Every plot: line charts and annotated heatmaps, alone or side by side, drawn by gnuplot as SVG and PNG.
// lab.draw({.name = "scaling", .title = "...", .panels = {LineChart{...}, LineChart{...}}});
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "framework/tensor.hpp"

namespace surgeon {

inline constexpr double automatic = std::numeric_limits<double>::quiet_NaN();

struct Series {
  std::string name = {};               // in the legend; empty: not there
  std::vector<double> x = {}, y = {};  // nan leaves a gap
  std::vector<double> low = {}, high = {};   // a band around the line, when given
  int colour = -1;                     // 0 blue, 1 vermilion, 2 green, 3 purple, 4 orange, 5 sky, 6 grey; -1: by order
  bool dashed = false;
  bool points = true;
};

struct ReferenceLine {                     // a horizontal line: what theory says, a limit
  double y = 0;
  std::string label = {};
};

struct LineChart {
  std::string title = {}, x_label = {}, y_label = {};
  std::vector<Series> series = {};
  std::vector<ReferenceLine> references = {};
  bool log_x = false, log_y = false;   // with a logarithmic axis, values <= 0 are left out
  double y_low = automatic, y_high = automatic;
  std::vector<double> x_ticks = {};    // none: gnuplot's choice
};

enum class Palette { viridis, blues, reds, greens };

struct Heatmap {
  std::string title = {}, x_label = {}, y_label = {};
  std::string bar_label = {};          // of the colour bar; empty: no bar
  std::vector<std::string> x_ticks = {}, y_ticks = {};   // one per column, one per row; none: 0, 1, 2, ...
  std::vector<std::vector<double>> values = {};          // rows from the top
  Palette palette = Palette::viridis;
  double low = 0, high = 1;            // the ends of the colour scale
  int decimals = 2;                    // of the number in each cell; -1: none
};

using Panel = std::variant<LineChart, Heatmap>;

struct Figure {
  std::string name = {};               // of the files
  std::string title = {};
  std::vector<Panel> panels = {};
  int columns = 0;                     // 0: all panels in one row
};

// Entry `index` of a tensor [n, rows, columns], or a matrix [rows, columns], with attention's names for the axes.
Heatmap heatmap_of(const Tensor& x, std::int64_t index = 0);

std::string figure_data(const Figure& figure);   // CSV: panel,series,x,y,value,low,high

// Draws in the background, so that a run does not wait for its pictures.
class Plotter {
 public:
  // svg and png appear under folder when they are whole; until then they have temporary names.
  void start(const Figure& figure, const std::filesystem::path& folder);
  // Waits for all; one line for each that failed. `missing` when there is no gnuplot.
  std::vector<std::string> finish();
  bool missing() const { return missing_; }
  ~Plotter();

 private:
  struct Job { int process; std::string name; std::filesystem::path script, errors, svg, png; };
  std::string collect(const Job& job);
  std::vector<Job> jobs_;
  bool missing_ = false;
};

}  // namespace surgeon
