// Where everything in a figure lies, and what its axes span: the same whoever draws it.
#pragma once

#include <string>
#include <vector>

#include "experiments/figures.hpp"

namespace surgeon {

// ---- Boxes, in pixels of the SVG -----------------------------------------------------------------------------------
struct Box { double left, right, top, bottom, width, height; };   // margins, and the plot inside them

struct Sheet {
  double width = 0, height = 0, title = 0;
  int columns = 1;
  std::vector<Box> column = {}, row = {};   // widths and side margins by column, heights and the others by row
};
Sheet sheet_of(const Figure& figure);

// The plot of one panel, and the outer left of its box, as shares of the sheet counted from the lower left; what one
// pixel is of it.
struct Place { double left, right, top, bottom, pixel_x, pixel_y, outer_left; };
Place place_of(const Sheet& sheet, int panel);

// ---- Axes ----------------------------------------------------------------------------------------------------------
struct Tick { double at = 0; std::string text = {}; };

struct Axis {
  bool log = false;
  double low = 0, high = 1;       // its ends
  std::vector<Tick> ticks = {};   // none: whoever draws it chooses
};
struct Axes { Axis x = {}, y = {}; };
Axes axes_of(const LineChart& chart);   // room for every point, band and reference line that can be shown

bool can_show(const LineChart& chart, double x, double y);   // both finite, and above 0 on a logarithmic axis
bool has_band(const Series& series);

// ---- Ticks of heatmaps ---------------------------------------------------------------------------------------------
std::size_t columns_of(const Heatmap& map);
std::vector<std::string> x_ticks_of(const Heatmap& map);   // one for each column
std::vector<std::string> y_ticks_of(const Heatmap& map);   // one for each row
double text_width(const std::vector<std::string>& texts);   // of the longest, in pixels, about
bool fits(double text, double cell);                        // or the ticks below the cells have to be turned

}  // namespace surgeon
