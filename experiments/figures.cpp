// Plots by gnuplot. Tokens come as they are (noenhanced), colours are mixed here rather than made transparent, since
// SVG viewers differ on transparency. plotter.cpp runs what is written here.
#include "experiments/figures.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include <fmt/format.h>

namespace surgeon {
namespace {

// ---- Colours -------------------------------------------------------------------------------------------------------
using Rgb = std::array<double, 3>;

// Okabe and Ito's colours, told apart by colour-blind eyes too.
constexpr int line_colours[] = {0x0072B2, 0xD55E00, 0x009E73, 0xAA4499, 0xE69F00, 0x56B4E9, 0x777777};
constexpr int ink = 0x333333, faint = 0xE3E3E3, grey = 0x8A8A8A;

Rgb rgb(int hex) { return {double(hex >> 16 & 255), double(hex >> 8 & 255), double(hex & 255)}; }
std::string hex(const Rgb& c) {
  return fmt::format("#{:02X}{:02X}{:02X}", int(c[0] + .5), int(c[1] + .5), int(c[2] + .5));
}
std::string hex(int colour) { return hex(rgb(colour)); }

Rgb mixed(const Rgb& a, const Rgb& b, double t) {
  return {std::lerp(a[0], b[0], t), std::lerp(a[1], b[1], t), std::lerp(a[2], b[2], t)};
}
std::string tint(int colour) { return hex(mixed(rgb(colour), {255, 255, 255}, 0.82)); }

// Evenly spaced stops of matplotlib's viridis and ColorBrewer's Blues, Reds, Greens.
std::vector<int> stops(Palette palette) {
  switch (palette) {
    case Palette::blues:
      return {0xF7FBFF, 0xDEEBF7, 0xC6DBEF, 0x9ECAE1, 0x6BAED6, 0x4292C6, 0x2171B5, 0x08519C, 0x08306B};
    case Palette::reds:
      return {0xFFF5F0, 0xFEE0D2, 0xFCBBA1, 0xFC9272, 0xFB6A4A, 0xEF3B2C, 0xCB181D, 0xA50F15, 0x67000D};
    case Palette::greens:
      return {0xF7FCF5, 0xE5F5E0, 0xC7E9C0, 0xA1D99B, 0x74C476, 0x41AB5D, 0x238B45, 0x006D2C, 0x00441B};
    default:
      return {0x440154, 0x482878, 0x3E4989, 0x31688E, 0x26828E, 0x1F9E89, 0x35B779, 0x6DCD59, 0xB4DE2C, 0xFDE725};
  }
}

Rgb colour_at(Palette palette, double t) {
  const std::vector<int> list = stops(palette);
  const double place = std::clamp(t, 0.0, 1.0) * double(list.size() - 1);
  const std::size_t i = std::min(std::size_t(place), list.size() - 2);
  return mixed(rgb(list[i]), rgb(list[i + 1]), place - double(i));
}

// WCAG's relative luminance; the text colour with the larger contrast ratio.
bool wants_white(const Rgb& c) {
  auto linear = [](double v) { return v <= 10.31 ? v / 255 / 12.92 : std::pow((v / 255 + 0.055) / 1.055, 2.4); };
  const double luminance = 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  return luminance < 0.179;
}

// ---- Text for gnuplot and for CSV ----------------------------------------------------------------------------------
std::string quoted(const std::string& text) {   // in single quotes only the quote itself means something
  std::string result = "'";
  for (char c : text) result += c == '\'' ? "''" : c == '\n' ? " " : std::string(1, c);
  return result + "'";
}

std::string field(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string result = "\"";
  for (char c : text) result += c == '"' ? "\"\"" : std::string(1, c);
  return result + "\"";
}

std::string plain(double x) { return std::isnan(x) ? "" : fmt::format("{}", x); }
std::string datum(double x) { return std::isfinite(x) ? fmt::format("{:.10g}", x) : "NaN"; }

std::string superscript(int n) {
  static const char* digits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string text = n < 0 ? "⁻" : "";
  for (char c : std::to_string(std::abs(n))) text += digits[c - '0'];
  return text;
}

std::size_t letters(const std::string& text) {
  return std::size_t(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::vector<std::string> ticks_of(const std::vector<std::string>& given, std::size_t n) {
  std::vector<std::string> ticks = given;
  for (std::size_t i = ticks.size(); i < n; ++i) ticks.push_back(std::to_string(i));
  return ticks;
}

std::size_t longest(const std::vector<std::string>& texts) {
  std::size_t most = 0;
  for (const std::string& text : texts) most = std::max(most, letters(text));
  return most;
}

// ---- Where things lie, in pixels of the SVG ------------------------------------------------------------------------
struct Box { double left, right, top, bottom, width, height; };   // margins, and the plot inside them

struct Sheet {
  double width = 0, height = 0, title = 0;
  int columns = 1;
  std::vector<Box> column = {}, row = {};   // widths and side margins by column, heights and the others by row
  double point = 1;                         // what this terminal takes for a pixel of letter height
};

std::size_t columns_of(const Heatmap& map) { return map.values.empty() ? 0 : map.values.front().size(); }

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
  const std::vector<std::string> x = ticks_of(map.x_ticks, columns), y = ticks_of(map.y_ticks, rows);
  const double x_text = 7.2 * double(longest(x)), y_text = 7.2 * double(longest(y));
  const double bottom = (map.x_label.empty() ? 12 : 32) + (x_text > cell * 0.95 ? 8 + 0.75 * x_text : 18);
  return {(map.y_label.empty() ? 14 : 44) + y_text,
          map.bar_label.empty() ? 14.0 : 88.0,
          map.title.empty() ? 12.0 : 34.0,
          bottom,
          cell * double(columns),
          cell * double(rows)};
}

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
  sheet.width = std::max(sheet.width, 30 + 9.5 * double(letters(figure.title)));
  sheet.height = sheet.title;
  for (const Box& b : sheet.row) sheet.height += b.top + b.height + b.bottom;
  return sheet;
}

// Margins of one panel as shares of the sheet, from the lower left as gnuplot counts; the pixels of one cell or plot.
struct Place { double left, right, top, bottom, pixel_x, pixel_y, point, outer_left; };

Place place_of(const Sheet& sheet, int panel) {
  double x = 0, y = sheet.title;
  for (int c = 0; c < panel % sheet.columns; ++c) {
    const Box& b = sheet.column[std::size_t(c)];
    x += b.left + b.width + b.right;
  }
  for (int r = 0; r < panel / sheet.columns; ++r) {
    const Box& b = sheet.row[std::size_t(r)];
    y += b.top + b.height + b.bottom;
  }
  const Box &column = sheet.column[std::size_t(panel % sheet.columns)],
            &row = sheet.row[std::size_t(panel / sheet.columns)];
  x += column.left;
  y += row.top;
  return {x / sheet.width, (x + column.width) / sheet.width, 1 - y / sheet.height, 1 - (y + row.height) / sheet.height,
          1 / sheet.width, 1 / sheet.height, sheet.point, (x - column.left) / sheet.width};
}

// A size in pixels as this terminal wants it.
std::string font(const Place& place, double pixels) { return fmt::format("font ',{:.1f}'", pixels * place.point); }

std::string margins(const Place& p) {
  return fmt::format("set lmargin at screen {:.5f}\nset rmargin at screen {:.5f}\nset tmargin at screen {:.5f}\n"
                     "set bmargin at screen {:.5f}\n", p.left, p.right, p.top, p.bottom);
}

// The names of the axes, at places of their own: where gnuplot would put them depends on how wide it believes the ticks.
std::string axis_names(const std::string& x, const std::string& y, const Place& p, double below) {
  std::string text;
  if (!x.empty())
    text += fmt::format("set label 1001 {} at screen {:.5f},{:.5f} center tc rgb '{}'\n", quoted(x),
                        (p.left + p.right) / 2, p.bottom - below * p.pixel_y, hex(ink));
  if (!y.empty())
    text += fmt::format("set label 1002 {} at screen {:.5f},{:.5f} center rotate by 90 tc rgb '{}'\n", quoted(y),
                        p.outer_left + 16 * p.pixel_x, (p.top + p.bottom) / 2, hex(ink));
  return text;
}

std::string titled(const std::string& title, const Place& place) {
  if (title.empty()) return "";
  return fmt::format("set label 1000 {} at screen {:.5f},{:.5f} left {} tc rgb '{}'\n", quoted(title), place.left,
                     place.top + 14 * place.pixel_y, font(place, 14.5), hex(ink));
}

// ---- Line charts ---------------------------------------------------------------------------------------------------
int colour_of(const LineChart& chart, std::size_t i) {
  const int chosen = chart.series[i].colour >= 0 ? chart.series[i].colour : int(i);
  return line_colours[std::size_t(chosen) % std::size(line_colours)];
}

bool shown(const LineChart& chart, double x, double y) {
  return std::isfinite(x) && std::isfinite(y) && !(chart.log_x && x <= 0) && !(chart.log_y && y <= 0);
}

bool any_shown(const LineChart& chart, const Series& s) {
  for (std::size_t i = 0; i < s.x.size(); ++i)
    if (shown(chart, s.x[i], s.y[i])) return true;
  return false;
}

std::string axes(const LineChart& chart) {
  std::string text = "unset logscale\nset xtics auto\nset ytics auto\nset autoscale xy\n";
  double low = 1e300, high = -1e300;
  std::set<double> xs;
  for (const Series& s : chart.series)
    for (std::size_t i = 0; i < s.x.size(); ++i)
      if (shown(chart, s.x[i], s.y[i])) {
        xs.insert(s.x[i]);
        const double above = i < s.high.size() ? s.high[i] : s.y[i], below = i < s.low.size() ? s.low[i] : s.y[i];
        high = std::max(high, std::isfinite(above) ? above : s.y[i]);
        low = std::min(low, shown(chart, s.x[i], below) ? below : s.y[i]);
      }
  for (const ReferenceLine& r : chart.references)
    if (shown(chart, 1, r.y)) low = std::min(low, r.y), high = std::max(high, r.y);
  if (chart.log_x) text += "set logscale x\n";
  std::vector<double> marks = chart.x_ticks;
  if (marks.empty() && chart.log_x && xs.size() <= 9) marks.assign(xs.begin(), xs.end());
  if (!marks.empty()) {
    text += "set xtics (";
    for (const double& x : marks) text += fmt::format("{}'{}' {}", &x == &marks[0] ? "" : ", ", datum(x), datum(x));
    text += ")\n";
  }
  if (!xs.empty() && *xs.begin() < *xs.rbegin()) {
    const double a = *xs.begin(), b = *xs.rbegin();
    const double pad = chart.log_x ? std::pow(b / a, 0.04) : (b - a) * 0.03;
    text += fmt::format("set xrange [{}:{}]\n", datum(chart.log_x ? a / pad : a - pad),
                        datum(chart.log_x ? b * pad : b + pad));
  }
  if (low > high) return text + "set xrange [0:1]\nset yrange [0:1]\n";   // nothing to show
  if (chart.log_y) {
    const int first = int(std::floor(std::log10(low))), last = int(std::ceil(std::log10(high)));
    const int every = std::max(1, (last - first + 6) / 7);
    text += "set logscale y\nset ytics (";
    for (int e = first; e <= last; e += every)
      text += fmt::format("{}'10{}' 1e{}", e == first ? "" : ", ", superscript(e), e);
    text += ")\n";
    const double pad = std::pow(std::max(high / low, 1.5), 0.06);
    text += fmt::format("set yrange [{:.6e}:{:.6e}]\n", low / pad, high * pad);
  } else {
    const double pad = high > low ? 0.06 * (high - low) : std::max(std::abs(high) * 0.1, 0.1);
    text += fmt::format("set yrange [{}:{}]\n", datum(std::isnan(chart.y_low) ? low - pad : chart.y_low),
                        datum(std::isnan(chart.y_high) ? high + pad : chart.y_high));
  }
  return text;
}

std::string script_of(const LineChart& chart, const Place& place, int panel) {
  std::string data, bands, lines;
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    const Series& s = chart.series[i];
    if (!any_shown(chart, s)) continue;   // gnuplot refuses what has no point
    const bool band = s.low.size() == s.x.size() && s.high.size() == s.x.size() && !s.x.empty();
    const std::string block = fmt::format("$p{}s{}", panel, i);
    data += block + " << EOD\n";
    for (std::size_t k = 0; k < s.x.size(); ++k) {
      const bool here = shown(chart, s.x[k], s.y[k]);
      const double floor = chart.log_y ? s.y[k] : automatic;   // a band that reaches 0 ends at the line
      const double low = band ? (shown(chart, s.x[k], s.low[k]) ? s.low[k] : floor) : automatic;
      data += fmt::format("{} {} {} {}\n", datum(s.x[k]), here ? datum(s.y[k]) : "NaN", here ? datum(low) : "NaN",
                          here && band ? datum(s.high[k]) : "NaN");
    }
    data += "EOD\n";
    const int colour = colour_of(chart, i);
    if (band)
      bands += fmt::format("{} using 1:3:4 with filledcurves fc rgb '{}' fs solid 1 noborder notitle, \\\n  ", block,
                           tint(colour));
    lines += fmt::format("{} using 1:2 with {} lw 2 {} lc rgb '{}' {}{}, \\\n  ", block,
                         s.points ? "linespoints" : "lines", s.dashed ? "dt (12,6)" : "dt solid", hex(colour),
                         s.points ? "pt 7 ps 0.55 " : "", s.name.empty() ? "notitle" : "title " + quoted(s.name));
  }
  std::string text = data + margins(place) + titled(chart.title, place) + axes(chart);
  text += fmt::format(
      "set border 3 lc rgb '{}' lw 1\nset grid xtics ytics front lt 1 lw 0.6 lc rgb '{}'\nset grid back\n"
      "set tics nomirror out scale 0.5 textcolor rgb '{}'\nset key at screen {:.5f},{:.5f} left top "
      "vertical maxrows {} Left reverse samplen 2.4 spacing 1.1 textcolor rgb '{}'\n",
      hex(grey), hex(faint), hex(ink), place.left - 8 * place.pixel_x, place.bottom - 54 * place.pixel_y, 12, hex(ink));
  text += axis_names(chart.x_label, chart.y_label, place, 40);
  std::string references;
  int label = 1;
  for (const ReferenceLine& r : chart.references) {
    if (!shown(chart, 1, r.y)) continue;
    references += fmt::format("{} with lines lw 1.2 dt (4,4) lc rgb '{}' notitle, \\\n  ", datum(r.y), hex(grey));
    text += fmt::format("set label {} {} at graph 0.99, first {} right offset 0,0.5 front tc rgb '{}' {}\n", label++,
                        quoted(r.label), datum(r.y), hex(0x666666), font(place, 12));
  }
  std::string plots = bands + references + lines;
  if (plots.empty()) plots = "-1 notitle, \\\n  ";   // out of sight
  plots.erase(plots.rfind(", \\"));
  text += "plot " + plots + "\n";
  return text + "unset label\nunset grid\n";
}

// ---- Heatmaps ------------------------------------------------------------------------------------------------------
std::string tick_list(const std::vector<std::string>& ticks) {
  std::string text = "(";
  for (std::size_t i = 0; i < ticks.size(); ++i) text += fmt::format("{}{} {}", i ? ", " : "", quoted(ticks[i]), i);
  return text + ")";
}

std::string palette_of(Palette palette) {
  const std::vector<int> list = stops(palette);
  std::string text = "set palette maxcolors 256 defined (";
  for (std::size_t i = 0; i < list.size(); ++i) text += fmt::format("{}{} '{}'", i ? ", " : "", i, hex(list[i]));
  return text + ")\n";
}

// The number in a cell; -0.00 reads as 0.00.
std::string cell_text(double value, int decimals) {
  if (!std::isfinite(value)) return fmt::format("{}", value);
  const std::string text = fmt::format("{:.{}f}", value, decimals);
  return text.find_first_not_of("-0.") == std::string::npos ? fmt::format("{:.{}f}", 0.0, decimals) : text;
}

std::string script_of(const Heatmap& map, const Place& place, int panel) {
  const std::size_t rows = map.values.size(), columns = columns_of(map);
  std::string cells = fmt::format("$p{} << EOD\n", panel), white, dark;
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < columns; ++c) {
      const double v = map.values[r][c];
      const Rgb colour = std::isfinite(v) ? colour_at(map.palette, (v - map.low) / (map.high - map.low)) : rgb(faint);
      cells += fmt::format("{} {} {} {}\n", c, r, datum(v),
                           int(colour[0] + .5) << 16 | int(colour[1] + .5) << 8 | int(colour[2] + .5));
      if (map.decimals >= 0)
        (wants_white(colour) ? white : dark) += fmt::format("{} {} {}\n", c, r, cell_text(v, map.decimals));
    }
  std::string text = cells + "EOD\n";
  if (!white.empty()) text += fmt::format("$p{}w << EOD\n{}EOD\n", panel, white);
  if (!dark.empty()) text += fmt::format("$p{}d << EOD\n{}EOD\n", panel, dark);
  const std::vector<std::string> x = ticks_of(map.x_ticks, columns), y = ticks_of(map.y_ticks, rows);
  const double cell = (place.right - place.left) / place.pixel_x / double(std::max<std::size_t>(columns, 1));
  const bool turned = 7.2 * double(longest(x)) > cell * 0.95;
  text += margins(place) + titled(map.title, place) + palette_of(map.palette);
  text += fmt::format(
      "unset logscale\nunset border\nunset key\nset xrange [-0.5:{}]\nset yrange [{}:-0.5]\nset cbrange [{}:{}]\n"
      "set tics nomirror scale 0 textcolor rgb '{}'\nset xtics {} {}\nset ytics {}\n",
      double(columns) - 0.5, double(rows) - 0.5, datum(map.low), datum(map.high), hex(ink),
      turned ? "rotate by 45 right" : "norotate", tick_list(x), tick_list(y));
  text += axis_names(map.x_label, map.y_label, place, turned ? 26 + 0.75 * 7.2 * double(longest(x)) : 36);
  if (map.bar_label.empty()) {
    text += "unset colorbox\n";
  } else {
    text += fmt::format(
        "set colorbox vertical user origin screen {:.5f}, screen {:.5f} size screen {:.5f}, screen {:.5f} noborder\n"
        "set cblabel {} offset -0.6,0 tc rgb '{}'\nset cbtics scale 0.4 offset -0.5,0 textcolor rgb '{}'\n",
        place.right + 12 * place.pixel_x, place.bottom, 12 * place.pixel_x, place.top - place.bottom,
        quoted(map.bar_label), hex(ink), hex(ink));
  }
  const std::string size = font(place, std::clamp(cell * (map.decimals > 0 ? 0.3 : 0.42), 8.0, 14.0));
  // The dots, which the cells cover, are there for the colour bar; the cells carry their own colours.
  text += fmt::format("plot $p{0} using 1:2:3 with dots palette, \\\n  $p{0} using 1:2:(0.5):(0.5):4 with boxxyerror "
                      "fs solid 1 noborder lc rgb variable", panel);
  if (!white.empty()) text += fmt::format(", \\\n  $p{}w using 1:2:3 with labels {} tc rgb '#FFFFFF'", panel, size);
  if (!dark.empty()) text += fmt::format(", \\\n  $p{}d using 1:2:3 with labels {} tc rgb '#1A1A1A'", panel, size);
  return text + "\nunset label\nset xtics norotate\n";
}

std::string page(const Figure& figure, const Sheet& sheet) {
  std::string text = fmt::format("set multiplot\nset style fill solid 1\n");
  if (!figure.title.empty())
    text += fmt::format("set label 999 {} at screen {:.5f},{:.5f} left font ',{:.1f}' tc rgb '{}'\n",
                        quoted(figure.title), 14 / sheet.width, 1 - 20 / sheet.height, 16.5 * sheet.point, hex(ink));
  for (int i = 0; i < int(figure.panels.size()); ++i) {
    const Place place = place_of(sheet, i);
    if (const auto* chart = std::get_if<LineChart>(&figure.panels[std::size_t(i)])) text += script_of(*chart, place, i);
    else text += script_of(std::get<Heatmap>(figure.panels[std::size_t(i)]), place, i);
  }
  return text + "unset multiplot\nset output\n";
}

}  // namespace

std::string figure_data(const Figure& figure) {
  std::string text = "panel,series,x,y,value,low,high\n";
  auto lines = [&text](const LineChart& chart) {
    for (const Series& s : chart.series)
      for (std::size_t i = 0; i < s.x.size(); ++i)
        text += fmt::format("{},{},{},,{},{},{}\n", field(chart.title), field(s.name), plain(s.x[i]), plain(s.y[i]),
                            i < s.low.size() ? plain(s.low[i]) : "", i < s.high.size() ? plain(s.high[i]) : "");
    for (const ReferenceLine& r : chart.references)
      text += fmt::format("{},{},,,{},,\n", field(chart.title), field(r.label), plain(r.y));
  };
  auto map = [&text](const Heatmap& map) {
    const std::vector<std::string> x = ticks_of(map.x_ticks, columns_of(map)),
                                   y = ticks_of(map.y_ticks, map.values.size());
    for (std::size_t r = 0; r < map.values.size(); ++r)
      for (std::size_t c = 0; c < map.values[r].size(); ++c)
        text += fmt::format("{},,{},{},{},,\n", field(map.title), field(x[c]), field(y[r]), plain(map.values[r][c]));
  };
  for (const Panel& panel : figure.panels) {
    if (const auto* chart = std::get_if<LineChart>(&panel)) lines(*chart);
    else map(std::get<Heatmap>(panel));
  }
  return text;
}

std::string gnuplot_script(const Figure& figure, const std::string& svg, const std::string& png) {
  Sheet sheet = sheet_of(figure);
  std::string text = fmt::format(
      "set encoding utf8\nset terminal svg size {:.0f},{:.0f} noenhanced font 'DejaVu Sans,13' "
      "background '#FFFFFF'\nset output {}\n",
      sheet.width, sheet.height, quoted(svg));
  text += page(figure, sheet);
  sheet.point = 0.75;   // cairo's terminals measure letters in points, SVG's in pixels
  text += fmt::format(
      "set terminal pngcairo size {:.0f},{:.0f} noenhanced font 'DejaVu Sans,9.75' fontscale 1.6 linewidth 1.6 "
      "pointscale 1.6 background '#FFFFFF'\nset output {}\n",
      1.6 * sheet.width, 1.6 * sheet.height, quoted(png));
  return text + page(figure, sheet);
}

}  // namespace surgeon
