// Line charts and annotated heatmaps, alone or side by side, drawn by gnuplot as SVG and PNG.
//   lab.draw({.name = "scaling", .title = "...", .panels = {LineChart{...}, LineChart{...}}});
// Without a Lab: Plotter plotter; plotter.start(figure, "folder"); for (auto& failure : plotter.finish()) ...
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "framework/tensor.hpp"

namespace surgeon {

inline constexpr double automatic = std::numeric_limits<double>::quiet_NaN();

struct Series {
  std::string name = {};               // in the legend; empty: not shown there
  std::vector<double> x = {}, y = {};  // nan leaves a gap
  std::vector<double> low = {}, high = {};   // a band around the line; empty: none
  int colour = -1;                     // 0 blue, 1 vermilion, 2 green, 3 purple, 4 orange, 5 sky, 6 grey; -1: by order
  bool dashed = false;
  bool points = true;
};

struct ReferenceLine {                 // a horizontal line: a limit, or what theory predicts
  double y = 0;
  std::string label = {};
};

struct LineChart {
  std::string title = {}, x_label = {}, y_label = {};
  std::vector<Series> series = {};
  std::vector<ReferenceLine> references = {};
  bool log_x = false, log_y = false;   // a logarithmic axis leaves out values <= 0
  double y_low = automatic, y_high = automatic;
  std::vector<double> x_ticks = {};    // empty: chosen automatically
};

enum class Palette { viridis, blues, reds, greens };

struct Heatmap {
  std::string title = {}, x_label = {}, y_label = {};
  std::string bar_label = {};          // of the colour bar; empty: no bar
  std::vector<std::string> x_ticks = {}, y_ticks = {};   // one per column, one per row; empty: 0, 1, 2, ...
  std::vector<std::vector<double>> values = {};          // rows from the top
  Palette palette = Palette::viridis;
  double low = 0, high = 1;            // ends of the colour scale
  int decimals = 2;                    // of the number in each cell; -1: no number
};

using Panel = std::variant<LineChart, Heatmap>;

struct Figure {
  std::string name = {};               // of its files
  std::string title = {};
  std::vector<Panel> panels = {};
  int columns = 0;                     // 0: all panels in one row
};

// A matrix [rows, columns], or entry `index` of a tensor [n, rows, columns], with axes named as attention's.
Heatmap heatmap_of(const Tensor& x, std::int64_t index = 0);

std::string figure_data(const Figure& figure);   // CSV: panel,series,x,y,value,low,high

// Draws in the background, so that a run does not wait for its figures.
class Plotter {
 public:
  // How long finish() waits for all of them before it stops those that hang.
  explicit Plotter(std::chrono::milliseconds patience = std::chrono::minutes(1)) : patience_(patience) {}
  // The SVG and PNG appear in the folder, which must exist, once they are whole.
  void start(const Figure& figure, const std::filesystem::path& folder);
  // Waits for all; one line for each that failed. Once `hurry` says so, for two more seconds at most.
  std::vector<std::string> finish(const std::function<bool()>& hurry = {});
  bool missing() const { return missing_; }     // gnuplot is not installed: nothing is drawn
  ~Plotter();

 private:
  struct Job { int process; std::string name; std::filesystem::path script, errors, svg, png; };
  std::vector<Job> jobs_;
  std::vector<std::string> failures_;
  std::chrono::milliseconds patience_;
  bool missing_ = false;
};

}  // namespace surgeon
