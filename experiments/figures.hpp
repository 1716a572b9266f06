// Figures: line charts, scatter plots, bars, histograms and annotated heatmaps, alone or side by side, drawn by gnuplot
// as SVG, PNG and PDF.
//   lab.draw({.name = "scaling", .title = "...", .panels = {LineChart{...}, Heatmap{...}}});
// Without a Lab: Plotter plotter; plotter.start(figure, "folder"); for (auto& failure : plotter.finish()) ...
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "framework/tensor.hpp"

namespace surgeon {

inline constexpr double automatic = std::numeric_limits<double>::quiet_NaN();

// Words in a figure, shown as they are whatever characters they have, unless they are typeset(). A newline in a title
// begins a new line.
struct Text {
  Text() = default;
  Text(const char* all) : words(all) {}
  Text(std::string all) : words(std::move(all)) {}
  bool empty() const { return words.empty(); }
  std::string words = {};
  bool is_typeset = false;
};
Text typeset(std::string words);   // "√d_k", "10^{-3}": _ and ^ lower and raise the next letter or {group}

// Lines, points or bars with one name. A colour is 0 blue, 1 vermilion, 2 green, 3 purple, 4 orange, 5 sky, 6 grey,
// 7 red, or one of eight more; -1: by order, and so are dashes from the ninth on, and markers.
struct Series {
  Text name = {};                      // in the legend; empty: not shown there
  std::vector<double> x = {}, y = {};  // nan leaves a gap
  std::vector<double> low = {}, high = {};   // a band around the line, or the ends of error bars; empty: none
  int colour = -1;
  bool dashed = false;
  bool points = true;                  // markers on the line
};

struct ReferenceLine {                 // a dashed horizontal line: a limit, or what theory predicts
  double y = 0;
  Text label = {};                     // in the legend
  int colour = 6;
};

struct LineChart {
  Text title = {}, x_label = {}, y_label = {};
  std::vector<Series> series = {};
  std::vector<ReferenceLine> references = {};
  bool log_x = false, log_y = false;   // a logarithmic axis leaves out values <= 0
  double y_low = automatic, y_high = automatic;   // never below 0 by itself where nothing shown is
  std::vector<double> x_ticks = {};    // empty: chosen automatically
};

struct Scatter {                       // one point for each x and y
  Text title = {}, x_label = {}, y_label = {};
  std::vector<Series> series = {};
  std::vector<ReferenceLine> references = {};
  bool log_x = false, log_y = false;
};

struct Bars {                          // from 0 to y[i] above names[i], the series beside one another; x is not used
  Text title = {}, x_label = {}, y_label = {};
  std::vector<std::string> names = {};
  std::vector<Series> series = {};
  std::vector<ReferenceLine> references = {};
};

struct Samples { Text name = {}; std::vector<double> values = {}; int colour = -1; };

struct Histogram {                     // the share of each sample's values in bins that all samples have in common
  Text title = {}, x_label = {}, y_label = "share";
  std::vector<Samples> samples = {};
  bool log_x = false;                  // bins of equal ratio; values <= 0 count, but are not shown
  int bins = 0;                        // 0: by the rule of Freedman and Diaconis
};

enum class Palette { viridis, blues, reds, greens, diverging };   // diverging: blue below its middle, red above

struct Heatmap {
  Text title = {}, x_label = {}, y_label = {};
  Text bar_label = {};                 // of the colour bar; empty: no bar
  std::vector<std::string> x_ticks = {}, y_ticks = {};   // one per column, one per row; empty: 0, 1, 2, ...
  std::vector<std::vector<double>> values = {};          // rows from the top
  Palette palette = Palette::viridis;
  double low = automatic, high = automatic;   // ends of the colour scale: the data's; of a diverging one -m and m,
                                              // where m is the largest |value|
  int decimals = 2;                    // of the number in each cell; -1: no number
};

using Panel = std::variant<LineChart, Scatter, Bars, Histogram, Heatmap>;

struct Figure {
  std::string name = {};               // of its files
  Text title = {};
  std::vector<Panel> panels = {};
  int columns = 0;                     // 0: all panels in one row
  Text note = {};                      // below the panels
  bool one_bar = false;                // heatmaps on one scale: its bar stands at the end of each row only
};

// A matrix [rows, columns], or entry `index` of a tensor [n, rows, columns], with axes named as attention's.
Heatmap heatmap_of(const Tensor& x, std::int64_t index = 0);

// CSV: panel,series,x,y,value,low,high. Value is what a line, a bar or a cell shows; y is the row of a heatmap; low and
// high are the ends of bands, of error bars, and of a histogram's bins.
std::string figure_data(const Figure& figure);

// ---- Drawing -------------------------------------------------------------------------------------------------------
enum class FigureSize {
  screen,   // as large as its panels want
  slide,    // 16:9, with letters to be read from the last row: 18 points on a slide of 13.3 x 7.5 inches
  column    // 3.4 inches wide, one column of a paper, with letters of at least 7 points
};
enum class FigureFormat { svg, png, pdf };

struct Drawing {
  FigureSize size = FigureSize::screen;
  std::vector<FigureFormat> formats = {FigureFormat::svg, FigureFormat::png, FigureFormat::pdf};
};

// Draws in the background, so that a run does not wait for its figures.
class Plotter {
 public:
  // patience: how long finish() waits for all of them before it stops those that hang.
  explicit Plotter(Drawing drawing = {}, std::chrono::milliseconds patience = std::chrono::minutes(1))
      : drawing_(std::move(drawing)), patience_(patience) {}
  // The files appear in the folder once they are whole. IoError when there is no such folder, or nothing can be
  // written to it.
  void start(const Figure& figure, const std::filesystem::path& folder);
  // Waits for all; one line for each that failed, and one for letters that no font has: in PNG and PDF a � stands for
  // them. Once `hurry` says so, it waits for two more seconds at most.
  std::vector<std::string> finish(const std::function<bool()>& hurry = {});
  bool missing() const { return missing_; }     // gnuplot is not installed: nothing is drawn
  ~Plotter();

 private:
  struct Output { std::filesystem::path hidden, final; };
  struct Job { int process; std::string name; std::filesystem::path script, errors; std::vector<Output> outputs; };
  void write_script(const Figure& figure, const std::filesystem::path& folder, Job& job);
  std::string outcome_of(const Job& job, bool ended, int status) const;
  Drawing drawing_;
  std::chrono::milliseconds patience_;
  std::vector<Job> jobs_;
  std::vector<std::string> failures_;
  std::set<char32_t> not_in_fonts_;
  bool missing_ = false;
};

}  // namespace surgeon
