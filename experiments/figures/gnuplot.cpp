// Figures as gnuplot scripts. Tokens come as they are (noenhanced), and all text stands at places of our own: where
// gnuplot would put it depends on how wide it believes letters to be.
#include "experiments/figures/gnuplot.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "experiments/figures/colours.hpp"
#include "experiments/figures/layout.hpp"
#include "experiments/format.hpp"

namespace surgeon {
namespace {

// ---- Text ----------------------------------------------------------------------------------------------------------
std::string quoted(const std::string& text) {   // in single quotes only the quote itself means something
  std::string result = "'";
  for (char c : text) result += c == '\'' ? "''" : c == '\n' ? " " : std::string(1, c);
  return result + "'";
}

std::string datum(double x) { return std::isfinite(x) ? fmt::format("{:.10g}", x) : "NaN"; }

// ---- What both kinds of panel have ---------------------------------------------------------------------------------
// Where a panel lies, which one it is, and what this terminal takes for a pixel of letter height.
struct Spot : Place { int panel; double point; };

std::string font(const Spot& spot, double pixels) { return fmt::format("font ',{:.1f}'", pixels * spot.point); }

std::string margins(const Spot& spot) {
  return fmt::format("set lmargin at screen {:.5f}\nset rmargin at screen {:.5f}\nset tmargin at screen {:.5f}\n"
                     "set bmargin at screen {:.5f}\n",
                     spot.left, spot.right, spot.top, spot.bottom);
}

std::string titled(const std::string& title, const Spot& spot) {
  if (title.empty()) return "";
  return fmt::format("set label 1000 {} at screen {:.5f},{:.5f} left {} tc rgb '{}'\n", quoted(title), spot.left,
                     spot.top + 14 * spot.pixel_y, font(spot, 14.5), hex(ink));
}

// The name of the horizontal axis stands `below` pixels under the plot.
std::string axis_names(const std::string& x, const std::string& y, const Spot& spot, double below) {
  std::string text;
  if (!x.empty())
    text += fmt::format("set label 1001 {} at screen {:.5f},{:.5f} center tc rgb '{}'\n", quoted(x),
                        (spot.left + spot.right) / 2, spot.bottom - below * spot.pixel_y, hex(ink));
  if (!y.empty())
    text += fmt::format("set label 1002 {} at screen {:.5f},{:.5f} center rotate by 90 tc rgb '{}'\n", quoted(y),
                        spot.outer_left + 16 * spot.pixel_x, (spot.top + spot.bottom) / 2, hex(ink));
  return text;
}

std::string tick_list(const std::vector<Tick>& ticks) {
  std::string text;
  for (const Tick& tick : ticks)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", quoted(tick.text), datum(tick.at));
  return "(" + text + ")";
}

// ---- Line charts ---------------------------------------------------------------------------------------------------
std::string axis_lines(const char* name, const Axis& axis) {
  const std::string ticks = axis.ticks.empty() ? "auto" : tick_list(axis.ticks);
  std::string text =
      fmt::format("set {0}tics {1}\nset {0}range [{2}:{3}]\n", name, ticks, datum(axis.low), datum(axis.high));
  if (axis.log) text += fmt::format("set logscale {}\n", name);
  return text;
}

bool any_shown(const LineChart& chart, const Series& s) {
  for (std::size_t i = 0; i < s.x.size(); ++i)
    if (can_show(chart, s.x[i], s.y[i])) return true;
  return false;
}

std::string block_name(const Spot& spot, std::size_t series) { return fmt::format("$p{}s{}", spot.panel, series); }

// x, y, and the ends of the band. One that reaches down to 0 on a logarithmic axis ends at the line.
std::string data_block(const LineChart& chart, const Series& s, const std::string& name) {
  const bool band = has_band(s);
  std::string text = name + " << EOD\n";
  for (std::size_t i = 0; i < s.x.size(); ++i) {
    double y = automatic, low = automatic, high = automatic;
    if (can_show(chart, s.x[i], s.y[i])) {
      y = s.y[i];
      if (band) low = can_show(chart, s.x[i], s.low[i]) ? s.low[i] : chart.log_y ? y : automatic;
      if (band) high = s.high[i];
    }
    text += fmt::format("{} {} {} {}\n", datum(s.x[i]), datum(y), datum(low), datum(high));
  }
  return text + "EOD\n";
}

// The parts of a `plot` command; each ends with the comma that goes before the next.
constexpr const char* next_part = ", \\\n  ";

std::string band_part(const Rgb& colour, const std::string& block) {
  return fmt::format("{} using 1:3:4 with filledcurves fc rgb '{}' fs solid 1 noborder notitle{}", block,
                     hex(tint(colour)), next_part);
}

std::string line_part(const Series& s, const Rgb& colour, const std::string& block) {
  return fmt::format("{} using 1:2 with {} lw 2 {} lc rgb '{}' {}{}{}", block, s.points ? "linespoints" : "lines",
                     s.dashed ? "dt (12,6)" : "dt solid", hex(colour), s.points ? "pt 7 ps 0.55 " : "",
                     s.name.empty() ? "notitle" : "title " + quoted(s.name), next_part);
}

std::string reference_part(const ReferenceLine& r) {
  return fmt::format("{} with lines lw 1.2 dt (4,4) lc rgb '{}' notitle{}", datum(r.y), hex(grey), next_part);
}

// Bands below, references over them, lines on top.
std::string plot_command(const LineChart& chart, const Spot& spot) {
  std::string bands, references, lines;
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    const Series& s = chart.series[i];
    if (!any_shown(chart, s)) continue;   // gnuplot refuses what has no point
    const Rgb colour = line_colour(chart, i);
    if (has_band(s)) bands += band_part(colour, block_name(spot, i));
    lines += line_part(s, colour, block_name(spot, i));
  }
  for (const ReferenceLine& r : chart.references)
    if (can_show(chart, 1, r.y)) references += reference_part(r);
  std::string parts = bands + references + lines;
  if (parts.empty()) parts = std::string("-1 notitle") + next_part;   // out of sight
  return "plot " + parts.substr(0, parts.rfind(next_part)) + "\n";
}

// Border, grid, ticks and legend.
std::string frame(const Spot& spot) {
  return fmt::format(
      "set border 3 lc rgb '{}' lw 1\nset grid xtics ytics front lt 1 lw 0.6 lc rgb '{}'\nset grid back\n"
      "set tics nomirror out scale 0.5 textcolor rgb '{}'\nset key at screen {:.5f},{:.5f} left top "
      "vertical maxrows {} Left reverse samplen 2.4 spacing 1.1 textcolor rgb '{}'\n",
      hex(grey), hex(faint), hex(ink), spot.left - 8 * spot.pixel_x, spot.bottom - 54 * spot.pixel_y, 12, hex(ink));
}

std::string reference_labels(const LineChart& chart, const Spot& spot) {
  std::string text;
  int label = 1;
  for (const ReferenceLine& r : chart.references)
    if (can_show(chart, 1, r.y))
      text += fmt::format("set label {} {} at graph 0.99, first {} right offset 0,0.5 front tc rgb '#666666' {}\n",
                          label++, quoted(r.label), datum(r.y), font(spot, 12));
  return text;
}

std::string script_of(const LineChart& chart, const Spot& spot) {
  std::string text;
  for (std::size_t i = 0; i < chart.series.size(); ++i)
    if (any_shown(chart, chart.series[i])) text += data_block(chart, chart.series[i], block_name(spot, i));
  const Axes axes = axes_of(chart);
  text += margins(spot) + titled(chart.title, spot);
  text += "unset logscale\n" + axis_lines("x", axes.x) + axis_lines("y", axes.y) + frame(spot);
  text += axis_names(chart.x_label, chart.y_label, spot, 40) + reference_labels(chart, spot);
  return text + plot_command(chart, spot) + "unset label\nunset grid\n";
}

// ---- Heatmaps ------------------------------------------------------------------------------------------------------
std::vector<Tick> at_cells(const std::vector<std::string>& texts) {
  std::vector<Tick> ticks;
  for (const std::string& text : texts) ticks.push_back({double(ticks.size()), text});
  return ticks;
}

std::string palette_of(Palette palette) {
  std::string stops;
  int i = 0;
  for (const Rgb& stop : stops_of(palette)) {
    stops += fmt::format("{}{} '{}'", i ? ", " : "", i, hex(stop));
    ++i;
  }
  return "set palette maxcolors 256 defined (" + stops + ")\n";
}

int packed(const Rgb& c) { return int(c[0] + .5) << 16 | int(c[1] + .5) << 8 | int(c[2] + .5); }

// Column, row, value and colour of each cell; its number among the white or the dark ones.
struct Cells { std::string all = {}, white = {}, dark = {}; };

Cells cells_of(const Heatmap& map) {
  Cells cells;
  for (std::size_t r = 0; r < map.values.size(); ++r)
    for (std::size_t c = 0; c < columns_of(map); ++c) {
      const double v = map.values[r][c];
      const Rgb colour = cell_colour(map, v);
      cells.all += fmt::format("{} {} {} {}\n", c, r, datum(v), packed(colour));
      if (map.decimals >= 0)
        (wants_white(colour) ? cells.white : cells.dark) += fmt::format("{} {} {}\n", c, r, fixed(v, map.decimals));
    }
  return cells;
}

std::string data_blocks(const Cells& cells, int panel) {
  std::string text = fmt::format("$p{} << EOD\n{}EOD\n", panel, cells.all);
  if (!cells.white.empty()) text += fmt::format("$p{}w << EOD\n{}EOD\n", panel, cells.white);
  if (!cells.dark.empty()) text += fmt::format("$p{}d << EOD\n{}EOD\n", panel, cells.dark);
  return text;
}

std::string colour_bar(const Heatmap& map, const Spot& spot) {
  if (map.bar_label.empty()) return "unset colorbox\n";
  return fmt::format(
      "set colorbox vertical user origin screen {:.5f}, screen {:.5f} size screen {:.5f}, screen {:.5f} noborder\n"
      "set cblabel {} offset -0.6,0 tc rgb '{}'\nset cbtics scale 0.4 offset -0.5,0 textcolor rgb '{}'\n",
      spot.right + 12 * spot.pixel_x, spot.bottom, 12 * spot.pixel_x, spot.top - spot.bottom, quoted(map.bar_label),
      hex(ink), hex(ink));
}

// The dots, which the cells cover, are there for the colour bar; the cells carry their own colours.
std::string plot_command(const Cells& cells, const Spot& spot, double letter) {
  const std::string size = font(spot, letter);
  std::string text = fmt::format("plot $p{0} using 1:2:3 with dots palette, \\\n  $p{0} using 1:2:(0.5):(0.5):4 with "
                                 "boxxyerror fs solid 1 noborder lc rgb variable", spot.panel);
  const auto numbers = [&](const char* block, const char* colour) {
    text += fmt::format("{}$p{}{} using 1:2:3 with labels {} tc rgb '{}'", next_part, spot.panel, block, size, colour);
  };
  if (!cells.white.empty()) numbers("w", "#FFFFFF");
  if (!cells.dark.empty()) numbers("d", "#1A1A1A");
  return text + "\n";
}

std::string script_of(const Heatmap& map, const Spot& spot) {
  const std::size_t rows = map.values.size(), columns = columns_of(map);
  const std::vector<std::string> x = x_ticks_of(map);
  const double cell = (spot.right - spot.left) / spot.pixel_x / double(std::max<std::size_t>(columns, 1));
  const double below = text_width(x);
  const bool turned = !fits(below, cell);
  const Cells cells = cells_of(map);
  std::string text = data_blocks(cells, spot.panel) + margins(spot) + titled(map.title, spot) + palette_of(map.palette);
  text += fmt::format(
      "unset logscale\nunset border\nunset key\nset xrange [-0.5:{}]\nset yrange [{}:-0.5]\nset cbrange [{}:{}]\n"
      "set tics nomirror scale 0 textcolor rgb '{}'\nset xtics {} {}\nset ytics {}\n",
      double(columns) - 0.5, double(rows) - 0.5, datum(map.low), datum(map.high), hex(ink),
      turned ? "rotate by 45 right" : "norotate", tick_list(at_cells(x)), tick_list(at_cells(y_ticks_of(map))));
  text += axis_names(map.x_label, map.y_label, spot, turned ? 26 + 0.75 * below : 36) + colour_bar(map, spot);
  text += plot_command(cells, spot, std::clamp(cell * (map.decimals > 0 ? 0.3 : 0.42), 8.0, 14.0));
  return text + "unset label\nset xtics norotate\n";
}

// ---- The sheet -----------------------------------------------------------------------------------------------------
std::string page(const Figure& figure, const Sheet& sheet, double point) {
  std::string text = "set multiplot\nset style fill solid 1\n";
  if (!figure.title.empty())
    text += fmt::format("set label 999 {} at screen {:.5f},{:.5f} left font ',{:.1f}' tc rgb '{}'\n",
                        quoted(figure.title), 14 / sheet.width, 1 - 20 / sheet.height, 16.5 * point, hex(ink));
  for (int i = 0; i < int(figure.panels.size()); ++i) {
    const Spot spot{place_of(sheet, i), i, point};
    text += std::visit([&](const auto& panel) { return script_of(panel, spot); }, figure.panels[std::size_t(i)]);
  }
  return text + "unset multiplot\nset output\n";
}

}  // namespace

std::string gnuplot_script(const Figure& figure, const std::string& svg, const std::string& png) {
  const Sheet sheet = sheet_of(figure);
  constexpr double zoom = 1.6, point = 0.75;   // cairo's terminals measure letters in points, SVG's in pixels
  return fmt::format("set encoding utf8\nset terminal svg size {:.0f},{:.0f} noenhanced font 'DejaVu Sans,13' "
                     "background '#FFFFFF'\nset output {}\n", sheet.width, sheet.height, quoted(svg)) +
         page(figure, sheet, 1) +
         fmt::format("set terminal pngcairo size {:.0f},{:.0f} noenhanced font 'DejaVu Sans,{}' fontscale {zoom} "
                     "linewidth {zoom} pointscale {zoom} background '#FFFFFF'\nset output {}\n",
                     zoom * sheet.width, zoom * sheet.height, 13 * point, quoted(png), fmt::arg("zoom", zoom)) +
         page(figure, sheet, point);
}

}  // namespace surgeon
