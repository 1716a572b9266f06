// Where everything in a figure lies, in pixels of the layout, counted from the upper left: the same whoever draws it.
#pragma once

#include <string>
#include <vector>

#include "experiments/figures/chart.hpp"
#include "experiments/figures/colours.hpp"
#include "experiments/figures/text.hpp"

namespace surgeon {

// What a figure is drawn on. Letters are 13 pixels high; how large that is says `inch`.
struct Paper {
  double width = 0, height = 0;   // 0: as large as the panels want
  double inch = 1.0 / 96;         // one pixel of the layout
  double dots = 96 * 1.6;         // of the PNG, per inch
  double title = 16.5;            // height of the figure's title
  double flatness = 0.55;         // height of a chart over its width, where only the width is given
  bool tight() const { return width > 0; }
};
Paper paper_of(FigureSize size);

// What the legend says about one series or reference line.
struct Entry { Text name; Look look; bool line = true, marker = false, bar = false; };
struct Legend {
  std::vector<Entry> entries = {};
  double left = 0, top = 0, step = 0;   // of its first sample; from one column to the next
  int rows = 0;
};

struct Place {
  double left = 0, right = 0, top = 0, bottom = 0;   // the plot, without its words
  double outer_left = 0;                             // where its column begins
  std::vector<Text> title = {};                      // its lines
  double title_left = 0;
  bool x_name = true, y_name = true;                 // whether the axes are named here, or at a neighbour
  bool bar = true;                                   // likewise the colour bar
  Legend legend = {};
};

struct Sheet {
  double width = 0, height = 0;
  std::vector<Text> title = {};
  std::vector<Place> places = {};   // one for each panel
  Legend legend = {};               // when all panels have the same one
  std::vector<Text> note = {};      // its lines
  double note_top = 0;
};
Sheet sheet_of(const Figure& figure, const Paper& paper);

// ---- Heatmaps ------------------------------------------------------------------------------------------------------
std::size_t columns_of(const Heatmap& map);
struct CellNumbers { bool fit = false; double height = 0; };    // whether the cells have room for their numbers
CellNumbers numbers_in(const Heatmap& map, double cell);        // cell: its width
// Ticks at the cells, so few that none touches the next. Those of the x axis may be turned.
struct CellTicks { std::vector<Tick> ticks = {}; bool turned = false; double room = 0; };   // room: below or beside
CellTicks x_ticks_of(const Heatmap& map, double cell);
CellTicks y_ticks_of(const Heatmap& map, double cell);

inline constexpr double line_height = 19, tick_gap = 13, bar_gap = 12, bar_width = 12;

}  // namespace surgeon
