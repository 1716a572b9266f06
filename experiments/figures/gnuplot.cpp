// Figures as gnuplot scripts. All text stands at places of our own: where gnuplot would put it depends on how wide it
// believes letters to be.
#include "experiments/figures/gnuplot.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "experiments/figures/layout.hpp"
#include "experiments/figures/pen.hpp"
#include "experiments/format.hpp"

namespace surgeon {
namespace {

std::string datum(double x) { return std::isfinite(x) ? fmt::format("{:.10g}", x) : "NaN"; }

// ---- What all panels have ------------------------------------------------------------------------------------------
std::string margins(const Pen& pen, const Place& p) {
  return fmt::format("set lmargin at screen {}\nset rmargin at screen {}\nset tmargin at screen {}\n"
                     "set bmargin at screen {}\n", pen.x(p.left), pen.x(p.right), pen.y(p.top), pen.y(p.bottom));
}

// Title and names of the axes; the horizontal one stands `below` pixels under the plot.
std::string words_around(const Pen& pen, const Place& p, const Text& x, const Text& y, double below) {
  std::string text;
  for (std::size_t i = 0; i < p.title.size(); ++i)
    text += pen.write(p.title[i], p.title_left, p.top - 14 - 20 * double(p.title.size() - 1 - i), {.height = 14.5});
  if (p.x_name) text += pen.write(x, (p.left + p.right) / 2, p.bottom + below, {.align = "center"});
  if (p.y_name) text += pen.write(y, p.outer_left + 16, (p.top + p.bottom) / 2, {.align = "center", .turned = true});
  return text;
}

std::string tick_list(const std::vector<Tick>& ticks) {
  std::string text;
  for (const Tick& tick : ticks) {
    std::string words;   // gnuplot takes a % for the beginning of a format
    for (const char c : tick.text) words += c == '%' ? "%%" : std::string(1, c);
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", in_quotes(words), datum(tick.at));
  }
  return "(" + text + ") noenhanced";
}

// The parts of a `plot` command; each ends with the comma that goes before the next.
constexpr const char* next_part = ", \\\n  ";

std::string legend(const Pen& pen, const Legend& legend) {
  std::string text;
  for (std::size_t i = 0; i < legend.entries.size(); ++i) {
    const Entry& e = legend.entries[i];
    const double x = legend.left + legend.step * double(int(i) / legend.rows),
                 y = legend.top + line_height * (int(i) % legend.rows);
    if (e.line) text += pen.line(x, y, x + 28, e.look);
    if (e.marker) text += pen.marker(x + 14, y, e.look);
    if (e.bar) text += pen.box(x + 4, y - 5, x + 26, y + 5, e.look.colour);
    text += pen.write(e.name, x + 36, y);
  }
  return text;
}

// ---- Charts --------------------------------------------------------------------------------------------------------
std::string axis_lines(const char* name, const Axis& axis) {
  std::string text = fmt::format("set {0}tics {1}\nset {0}range [{2}:{3}]\n", name, tick_list(axis.ticks),
                                 datum(axis.low), datum(axis.high));
  if (axis.log) text += fmt::format("set logscale {}\n", name);
  return text;
}

bool any_shown(const Chart& chart, const Series& s) {
  for (std::size_t i = 0; i < s.x.size(); ++i)
    if (can_show(chart, s.x[i], s.y[i])) return true;
  return false;
}

// x, y, the ends of the band, and those of the bar. A band that reaches down to 0 on a logarithmic axis ends at the
// line.
std::string data_block(const Chart& chart, std::size_t k, const std::string& name) {
  const Series& s = chart.series[k];
  const bool band = has_band(s), bar = chart.mark == Mark::bar;
  std::string text = name + " << EOD\n";
  for (std::size_t i = 0; i < s.x.size(); ++i) {
    double y = automatic, low = automatic, high = automatic;
    if (can_show(chart, s.x[i], s.y[i])) {
      y = s.y[i];
      if (band) low = can_show(chart, s.x[i], s.low[i]) ? s.low[i] : chart.log_y ? y : automatic;
      if (band) high = s.high[i];
    }
    text += fmt::format("{} {} {} {}", datum(s.x[i]), datum(y), datum(low), datum(high));
    if (bar) text += fmt::format(" {} {}", datum(chart.ends[k][i].first), datum(chart.ends[k][i].second));
    text += "\n";
  }
  return text + "EOD\n";
}

std::string band_part(const Look& look, const std::string& block) {
  return fmt::format("{} using 1:3:4 with filledcurves fc rgb '{}' fs transparent solid 0.2 noborder notitle{}", block,
                     hex(look.colour), next_part);
}

std::string line_part(const Pen& pen, const Chart& chart, const Series& s, const Look& look, const std::string& block) {
  const std::string points = fmt::format("pt {} ps {:.3f}", look.marker, pen.out.marker * look.marker_size);
  if (chart.mark == Mark::point)
    return fmt::format("{} using 1:2 with points {} lw {:.2f} lc rgb '{}' notitle{}", block, points, pen.out.stroke,
                       hex(look.colour), next_part);
  return fmt::format("{} using 1:2 with {} lw {:.2f} dt {} lc rgb '{}' {} notitle{}", block,
                     s.points ? "linespoints" : "lines", 2 * pen.out.stroke, look.dashes, hex(look.colour),
                     s.points ? points : "", next_part);
}

// Where bars of several series share a place, both are seen.
std::string bar_part(const Pen& pen, const Series& s, const Look& look, const std::string& block) {
  std::string text = fmt::format("{} using 1:2:5:6:(0):2 with boxxyerror fc rgb '{}' fs transparent solid 0.55 "
                                 "noborder notitle{}", block, hex(look.colour), next_part);
  if (has_band(s))
    text += fmt::format("{} using 1:2:3:4 with yerrorbars pt 0 ps 0 lw {:.2f} lc rgb '{}' notitle{}", block,
                        pen.out.stroke, hex(ink), next_part);
  return text;
}

// Bands below, references over them, lines on top.
std::string plot_command(const Pen& pen, const Chart& chart, int panel) {
  std::string bands, references, lines;
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    const Series& s = chart.series[i];
    if (!any_shown(chart, s)) continue;   // gnuplot refuses what has no point
    const Look look = look_of(s, i);
    const std::string block = fmt::format("$p{}s{}", panel, i);
    if (chart.mark == Mark::bar) {
      lines += bar_part(pen, s, look, block);
      continue;
    }
    if (has_band(s)) bands += band_part(look, block);
    lines += line_part(pen, chart, s, look, block);
  }
  for (const ReferenceLine& r : chart.references)
    if (can_show(chart, 1, r.y))
      references += fmt::format("{} with lines lw {:.2f} dt {} lc rgb '{}' notitle{}", datum(r.y),
                                1.6 * pen.out.stroke, look_of(r).dashes, hex(look_of(r).colour), next_part);
  std::string parts = bands + references + lines;
  if (parts.empty()) parts = std::string("-1 notitle") + next_part;   // out of sight
  return "plot " + parts.substr(0, parts.rfind(next_part)) + "\n";
}

std::string frame(const Pen& pen, bool places_have_names) {
  return fmt::format(
      "set border 3 lc rgb '{0}' lw {3:.2f}\nset grid {4} ytics front lt 1 lw {5:.2f} lc rgb '{1}'\nset grid back\n"
      "set tics nomirror out scale 0.5 textcolor rgb '{2}'\nunset key\nset xtics norotate\n",
      hex(grey), hex(faint), hex(ink), pen.out.stroke, places_have_names ? "noxtics" : "xtics", 0.6 * pen.out.stroke);
}

std::string script_of(const Chart& chart, const Pen& pen, const Place& place, int panel) {
  std::string text;
  for (std::size_t i = 0; i < chart.series.size(); ++i)
    if (any_shown(chart, chart.series[i])) text += data_block(chart, i, fmt::format("$p{}s{}", panel, i));
  const Axes axes = axes_of(chart, place.right - place.left, place.bottom - place.top);
  text += margins(pen, place) + "unset logscale\n" + frame(pen, !chart.names.empty());
  text += axis_lines("x", axes.x) + axis_lines("y", axes.y);
  text += words_around(pen, place, chart.x_label, chart.y_label, 40) + legend(pen, place.legend);
  return text + plot_command(pen, chart, panel) + pen.clear() + "unset grid\n";
}
template <class P>
std::string script_of(const P& panel, const Pen& pen, const Place& place, int i) {
  return script_of(chart_of(panel), pen, place, i);
}

// ---- Heatmaps ------------------------------------------------------------------------------------------------------
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

Cells cells_of(const Heatmap& map, bool numbers) {
  Cells cells;
  for (std::size_t r = 0; r < map.values.size(); ++r)
    for (std::size_t c = 0; c < columns_of(map); ++c) {
      const double v = map.values[r][c];
      const Rgb colour = cell_colour(map, v);
      cells.all += fmt::format("{} {} {} {}\n", c, r, datum(v), packed(colour));
      if (numbers)
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

std::string colour_bar(const Heatmap& map, const Pen& pen, const Place& p) {
  if (map.bar_label.empty() || !p.bar) return "unset colorbox\n";
  const double left = p.right + bar_gap;
  const auto ticks = round_numbers(map.low, map.high, std::clamp(int((p.bottom - p.top) / 26), 2, 6));
  double words = 0;
  for (const Tick& tick : ticks) words = std::max(words, width_of(Text(tick.text)));
  return fmt::format("set colorbox vertical user origin screen {}, screen {} size screen {}, screen {} noborder\n"
                     "set cbtics scale 0.4 offset -0.5,0 {} textcolor rgb '{}'\n",
                     pen.x(left), pen.y(p.bottom), pen.x(bar_width), pen.share_y(p.bottom - p.top), tick_list(ticks),
                     hex(ink)) +
         pen.write(map.bar_label, left + bar_width + 8 + words + 14, (p.top + p.bottom) / 2,
                   {.align = "center", .turned = true});
}

// The dots, which the cells cover, are there for the colour bar; the cells carry their own colours.
std::string plot_command(const Cells& cells, const Pen& pen, int panel, double height) {
  std::string text = fmt::format("plot $p{0} using 1:2:3 with dots palette, \\\n  $p{0} using 1:2:(0.5):(0.5):4 with "
                                 "boxxyerror fs solid 1 noborder lc rgb variable", panel);
  const auto numbers = [&](const char* block, const char* colour) {
    text += fmt::format("{}$p{}{} using 1:2:3 with labels {} tc rgb '{}'", next_part, panel, block, pen.font(height),
                        colour);
  };
  if (!cells.white.empty()) numbers("w", "#FFFFFF");
  if (!cells.dark.empty()) numbers("d", "#1A1A1A");
  return text + "\n";
}

std::string script_of(const Heatmap& original, const Pen& pen, const Place& place, int panel) {
  const Heatmap map = with_scale(original);
  const std::size_t rows = map.values.size(), columns = columns_of(map);
  const double cell = (place.right - place.left) / double(std::max<std::size_t>(columns, 1));
  const CellTicks x = x_ticks_of(map, cell), y = y_ticks_of(map, cell);
  const CellNumbers numbers = numbers_in(map, cell);
  const Cells cells = cells_of(map, numbers.fit);
  std::string text = data_blocks(cells, panel) + margins(pen, place) + palette_of(map.palette);
  text += fmt::format(
      "unset logscale\nunset border\nunset key\nset xrange [-0.5:{}]\nset yrange [{}:-0.5]\nset cbrange [{}:{}]\n"
      "set tics nomirror scale 0 textcolor rgb '{}'\nset xtics {} {}\nset ytics {}\n",
      double(columns) - 0.5, double(rows) - 0.5, datum(map.low), datum(map.high), hex(ink),
      x.turned ? "rotate by 45 right" : "norotate", tick_list(x.ticks), tick_list(y.ticks));
  text += words_around(pen, place, map.x_label, map.y_label, x.room + 18) + colour_bar(map, pen, place);
  return text + plot_command(cells, pen, panel, numbers.height) + pen.clear() + "set xtics norotate\n";
}

// ---- The sheet -----------------------------------------------------------------------------------------------------
std::string page(const Figure& figure, const Pen& pen, const Sheet& sheet, const Paper& paper) {
  std::string text = "set multiplot\nset style fill solid 1\n";
  for (std::size_t i = 0; i < sheet.title.size(); ++i)
    text += pen.write(sheet.title[i], 14, 20 + (paper.title + 5) * double(i), {.height = paper.title});
  for (std::size_t i = 0; i < sheet.note.size(); ++i)
    text += pen.write(sheet.note[i], 14, sheet.note_top + line_height * (double(i) + 0.3));
  text += legend(pen, sheet.legend);
  for (std::size_t i = 0; i < figure.panels.size(); ++i)
    text += std::visit([&](const auto& panel) { return script_of(panel, pen, sheet.places[i], int(i)); },
                       figure.panels[i]);
  return text + "unset multiplot\nset output\n";
}

// cairo's terminals measure letters in points, of which 72 are 96 of their pixels; the PDF's unit is the inch.
std::string terminal_of(FigureFormat format, const Output& out, const Sheet& sheet) {
  const double width = sheet.width * out.zoom, height = sheet.height * out.zoom;
  switch (format) {
    case FigureFormat::svg: return fmt::format("svg size {:.0f},{:.0f}", width, height);
    case FigureFormat::png: return fmt::format("pngcairo size {:.0f},{:.0f} fontscale 1", width, height);
    default: return fmt::format("pdfcairo size {:.4f}in,{:.4f}in fontscale 1", width, height);
  }
}

Output output_for(FigureFormat format, const Paper& paper) {
  const double zoom = paper.inch * (format == FigureFormat::svg ? 96 : format == FigureFormat::png ? paper.dots : 1);
  switch (format) {
    case FigureFormat::svg: return {zoom, zoom, zoom, zoom};
    case FigureFormat::png: return {zoom, zoom * 0.75, zoom, zoom};
    default: return {zoom, paper.inch * 72 * 0.75, paper.inch * 96 * 1.6, paper.inch * 96};
  }
}

}  // namespace

std::string gnuplot_script(const Figure& original, FigureSize size,
                           const std::vector<std::pair<FigureFormat, std::string>>& files,
                           const std::set<char32_t>& without_font) {
  const auto cleaned = [&](bool by_cairo) {
    return with_words(original, [&](const std::string& words) {
      std::u32string letters = letters_of(words);
      for (char32_t& c : letters)
        if (by_cairo && without_font.contains(c)) c = replacement;
      return utf8_of(letters);
    });
  };
  const Paper paper = paper_of(size);
  std::string script = "set encoding utf8\n";
  for (const auto& [format, file] : files) {
    const Figure figure = cleaned(format != FigureFormat::svg);
    const Sheet sheet = sheet_of(figure, paper);
    const Output out = output_for(format, paper);
    script += fmt::format("set terminal {} enhanced font 'DejaVu Sans,{:.2f}' background '#FFFFFF'\nset output {}\n",
                          terminal_of(format, out, sheet), letter * out.letter, in_quotes(file));
    script += page(figure, {sheet.width, sheet.height, out}, sheet, paper);
  }
  return script;
}

}  // namespace surgeon
