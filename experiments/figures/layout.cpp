#include "experiments/figures/layout.hpp"

#include <algorithm>
#include <cmath>

#include "experiments/format.hpp"

namespace surgeon {
namespace {

// ---- Legends -------------------------------------------------------------------------------------------------------
std::vector<Entry> entries_of(const Chart& chart) {
  std::vector<Entry> entries;
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    const Series& s = chart.series[i];
    const bool bar = chart.mark == Mark::bar, line = chart.mark == Mark::line;
    if (!s.name.empty()) entries.push_back({s.name, look_of(s, i), line, !bar && (s.points || !line), bar});
  }
  for (const ReferenceLine& r : chart.references)
    if (!r.label.empty()) entries.push_back({r.label, look_of(r)});
  return entries;
}
std::vector<Entry> entries_of(const Heatmap&) { return {}; }
template <class P>
std::vector<Entry> entries_of(const P& panel) { return entries_of(chart_of(panel)); }

bool same(const std::vector<Entry>& a, const std::vector<Entry>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Entry& x, const Entry& y) {
    return x.name.words == y.name.words && x.look.colour == y.look.colour && x.look.dashes == y.look.dashes &&
           x.look.marker == y.look.marker && x.line == y.line && x.marker == y.marker;
  });
}

// In as many columns as fit; names that do not fit at all lose their middle.
Legend legend_of(std::vector<Entry> entries, double left, double top, double width) {
  constexpr double sample = 37, gap = 14;
  double widest = 0;
  for (Entry& e : entries) {
    if (!e.name.is_typeset) e.name.words = fitted(e.name.words, width - sample);
    widest = std::max(widest, width_of(e.name));
  }
  const double step = sample + widest + gap;
  const int n = int(entries.size()), columns = std::clamp(int((width + gap) / step), 1, std::max(n, 1));
  return {std::move(entries), left, top, step, (n + columns - 1) / columns};
}

// ---- Panels --------------------------------------------------------------------------------------------------------
// What stands around a plot, and what it would like to be.
struct Need { double left = 0, right = 0, bottom = 0, width = 0, height = 0; };

double widest(const std::vector<Tick>& ticks) {
  double most = 0;
  for (const Tick& t : ticks) most = std::max(most, width_of(Text(t.text)));
  return most;
}

// What a panel is told: the width of its column where the paper sets it, and whether its axes are named here.
struct Around { const Paper& paper; double box; bool x_name, y_name, bar; };

Need need_of(const Chart& chart, const Around& a) {
  const Axes axes = axes_of(chart, 380, 250);
  return {(a.y_name && !chart.y_label.empty() ? 30.0 : 8.0) + widest(axes.y.ticks) + tick_gap,
          a.paper.tight() ? 14.0 : 22.0, a.x_name && !chart.x_label.empty() ? 46.0 : 26.0, 380, 250};
}

double cell_wanted(const Heatmap& map) {
  const double most = double(std::max({map.values.size(), columns_of(map), std::size_t{1}}));
  const bool wide = map.decimals > 0;
  return std::clamp((wide ? 330.0 : 270.0) / most, wide ? 34.0 : 12.0, 62.0);
}

double bar_room(const Heatmap& map) {
  const Heatmap scaled = with_scale(map);
  return bar_gap + bar_width + 8 + widest(round_numbers(scaled.low, scaled.high, 6)) + 26;
}

Need need_of(const Heatmap& map, const Around& a) {
  const double wanted = cell_wanted(map), most = (a.box - 80) / double(std::max<std::size_t>(columns_of(map), 1));
  const double cell = a.paper.tight() ? std::clamp(most, 1.0, wanted) : wanted;
  return {(a.y_name && !map.y_label.empty() ? 30.0 : 8.0) + y_ticks_of(map, cell).room,
          map.bar_label.empty() || !a.bar ? 14.0 : bar_room(map),
          (a.x_name && !map.x_label.empty() ? 26.0 : 8.0) + x_ticks_of(map, cell).room,
          cell * double(columns_of(map)), cell * double(map.values.size())};
}
template <class P>
Need need_of(const P& panel, const Around& a) { return need_of(chart_of(panel), a); }

const Text& title_of(const Panel& panel) {
  return std::visit([](const auto& p) -> const Text& { return p.title; }, panel);
}

// Whether neighbours in a grid may do without their axes' names.
bool alike(const Figure& figure) {
  const auto* first = figure.panels.empty() ? nullptr : std::get_if<Heatmap>(&figure.panels[0]);
  return first && std::all_of(figure.panels.begin(), figure.panels.end(), [&](const Panel& p) {
    const auto* map = std::get_if<Heatmap>(&p);
    return map && map->x_label.words == first->x_label.words && map->y_label.words == first->y_label.words;
  });
}

// ---- Sheets --------------------------------------------------------------------------------------------------------
// One way to arrange the panels in a grid, from the needs of each to where it lies.
class Grid {
 public:
  Grid(const Figure& figure, const Paper& paper, int columns)
      : figure_(figure), paper_(paper), n_(int(figure.panels.size())), columns_(std::max(columns, 1)),
        rows_((n_ + columns_ - 1) / columns_) {
    for (int i = 0; i < n_; ++i) entries_.push_back(std::visit([](const auto& p) { return entries_of(p); }, panel(i)));
    shared_ = n_ > 1 && !entries_[0].empty() &&
              std::all_of(entries_.begin(), entries_.end(), [&](const auto& e) { return same(e, entries_[0]); });
    place_columns();
    place_rows();
  }

  Sheet sheet() const { return sheet_; }
  double least_side() const { return least_side_; }   // of all plots
  bool numbers_fit() const { return numbers_fit_; }   // in all cells that should have one

 private:
  const Panel& panel(int i) const { return figure_.panels[std::size_t(i)]; }
  Place& place(int i) { return sheet_.places[std::size_t(i)]; }
  const Heatmap* map(int i) const { return std::get_if<Heatmap>(&panel(i)); }
  template <class F> double over_column(int c, F value) const {
    double most = 0;
    for (int i = c; i < n_; i += columns_) most = std::max(most, value(i));
    return most;
  }
  template <class F> double over_row(int r, F value) const {
    double most = 0;
    for (int i = r * columns_; i < std::min(n_, (r + 1) * columns_); ++i) most = std::max(most, value(i));
    return most;
  }
  double left(int c) const { return over_column(c, [&](int i) { return needs_[std::size_t(i)].left; }); }
  double right(int c) const { return over_column(c, [&](int i) { return needs_[std::size_t(i)].right; }); }

  // How wide the plots are: as wide as they want, or what the paper leaves them.
  void place_columns() {
    const bool shared_names = paper_.tight() && n_ > 1 && alike(figure_);
    sheet_.places.resize(std::size_t(n_));
    double margins = 0;
    for (int i = 0; i < n_; ++i) {
      place(i).x_name = !shared_names || i + columns_ >= n_;
      place(i).y_name = !shared_names || i % columns_ == 0;
      place(i).bar = !figure_.one_bar || i % columns_ == columns_ - 1 || i == n_ - 1;
      const Around around{paper_, paper_.width / columns_, place(i).x_name, place(i).y_name, place(i).bar};
      needs_.push_back(std::visit([&](const auto& p) { return need_of(p, around); }, panel(i)));
      if (!paper_.tight())   // a title has the room it needs
        for (const Text& line : lines_of(title_of(panel(i)), 1e9, title_height))
          needs_.back().right =
              std::max(needs_.back().right, width_of(line, title_height) - needs_.back().width + 14);
    }
    for (int c = 0; c < columns_; ++c) margins += left(c) + right(c);
    room_ = paper_.tight() ? std::max(1.0, (paper_.width - margins) / columns_) : 0;
  }

  double box_width(int c) const { return left(c) + width(c) + right(c); }
  double width(int c) const {
    return paper_.tight() ? room_ : over_column(c, [&](int i) { return needs_[std::size_t(i)].width; });
  }

  void place_rows() {
    sheet_.title = lines_of(figure_.title, paper_.tight() ? paper_.width - 24 : 1e9, paper_.title);
    const double title = 12 + (paper_.title + 5) * double(sheet_.title.size());
    sheet_.width = paper_.width;
    if (!paper_.tight())
      for (int c = 0; c < columns_; ++c) sheet_.width += box_width(c);
    for (const Text& line : sheet_.title)
      sheet_.width = std::max(sheet_.width, paper_.tight() ? 0 : 30 + width_of(line, paper_.title));
    sheet_.width = std::max(sheet_.width, paper_.tight() ? 0 : 30 + width_of(figure_.note));
    note_ = lines_of(figure_.note, sheet_.width - 24, letter);
    if (shared_) sheet_.legend = legend_of(entries_[0], 14, 0, sheet_.width - 28);
    const double below = line_height * (sheet_.legend.rows + double(note_.size())) + (shared_ ? 10 : 0) + 8;
    for (int i = 0; i < n_; ++i) {
      const int c = i % columns_;
      place(i).title = lines_of(title_of(panel(i)), paper_.tight() ? box_width(c) - 16 : 1e9, title_height);
      if (!shared_)
        place(i).legend = legend_of(entries_[std::size_t(i)], 0, 0,
                                    paper_.tight() ? box_width(c) - 20 : width(c) + right(c));
    }
    double words = title + below;
    for (int r = 0; r < rows_; ++r) words += top(r) + bottom(r);
    const double share = paper_.height > 0 ? std::max(1.0, (paper_.height - words) / std::max(rows_, 1)) : 0;
    put(title, share);
    finish(below);
  }

  double top(int r) const {
    return over_row(r, [&](int i) {
      const std::size_t lines = sheet_.places[std::size_t(i)].title.size();
      return lines == 0 ? 12.0 : 14 + 20.0 * double(lines);
    });
  }
  double bottom(int r) const {
    return over_row(r, [&](int i) {
      const int rows = sheet_.places[std::size_t(i)].legend.rows;
      return needs_[std::size_t(i)].bottom + (rows > 0 ? line_height * rows + 14 : 6);
    });
  }

  // The size of one plot in the room there is; cells are square.
  std::pair<double, double> size_in(int i, double room_x, double room_y) {
    if (const Heatmap* m = map(i)) {
      const double columns = double(std::max<std::size_t>(columns_of(*m), 1)),
                   rows = double(std::max<std::size_t>(m->values.size(), 1));
      const double most = paper_.tight() ? (paper_.height > 0 ? 1e9 : 46.0) : cell_wanted(*m);
      const double cell = std::min({room_x / columns, room_y / rows, most});
      numbers_fit_ = numbers_fit_ && (m->decimals < 0 || numbers_in(*m, cell).fit);
      return {cell * columns, cell * rows};
    }
    if (paper_.height > 0) return {room_x, room_y};
    return {room_x, paper_.tight() ? std::clamp(paper_.flatness * room_x, 100.0, 250.0) : needs_[std::size_t(i)].height};
  }

  // Where the plots lie.
  void put(double title, double share) {
    end_ = title;
    for (int r = 0; r < rows_; ++r) {
      double x = 0, lowest = 0;
      for (int i = r * columns_; i < std::min(n_, (r + 1) * columns_); ++i) {
        put_one(i, x, end_ + top(r), size_in(i, width(i % columns_), share > 0 ? share : 1e9));
        lowest = std::max(lowest, place(i).bottom);
        x += box_width(i % columns_);
      }
      end_ = lowest + bottom(r);
    }
  }

  // In its column, from x on: in the middle of it where the paper gives more width than the plot takes.
  void put_one(int i, double x, double y, const std::pair<double, double>& size) {
    Place& p = place(i);
    const int c = i % columns_;
    p.outer_left = x + (paper_.tight() ? (width(c) - size.first) / 2 : 0);
    p.left = p.outer_left + left(c), p.right = p.left + size.first;
    p.top = y, p.bottom = y + size.second;
    p.legend.left = paper_.tight() ? x + 10 : p.left;
    p.legend.top = p.bottom + needs_[std::size_t(i)].bottom + 14;
    p.title_left = p.left;
    for (const Text& line : p.title)   // to the left where it needs the room
      if (p.left + width_of(line, title_height) > x + box_width(c)) p.title_left = x + 10;
    least_side_ = std::min({least_side_, size.first, 1.6 * size.second});
  }

  void finish(double below) {
    sheet_.legend.top = end_ + 12;
    sheet_.height = paper_.height > 0 ? paper_.height : end_ + below;
    sheet_.note = note_;
    sheet_.note_top = sheet_.height - line_height * double(note_.size()) - 2;
  }

  static constexpr double title_height = 14.5;
  const Figure& figure_;
  const Paper& paper_;
  int n_, columns_, rows_;
  std::vector<std::vector<Entry>> entries_ = {};
  std::vector<Need> needs_ = {};
  std::vector<Text> note_ = {};
  bool shared_ = false, numbers_fit_ = true;
  double room_ = 0, end_ = 0, least_side_ = 1e9;
  Sheet sheet_ = {};
};

// On a slide, the columns that make the smallest plot largest.
Sheet on_slide(const Figure& figure, const Paper& paper, int most) {
  Sheet best;
  double side = 0;
  for (int c = 1; c <= most; ++c)
    if (const Grid grid(figure, paper, c); grid.least_side() > side) best = grid.sheet(), side = grid.least_side();
  return best;
}

// In a column of a paper, as many side by side as leave the plots legible, on one page.
Sheet in_column(const Figure& figure, const Paper& paper, int most) {
  const double page = 9 / paper.inch;
  const bool maps = alike(figure);
  for (const double flatness : {0.55, 0.4}) {
    Paper flat = paper;
    flat.flatness = flatness;
    for (int c = most; c >= 1; --c)
      if (const Grid grid(figure, flat, c);
          maps ? grid.numbers_fit() && grid.least_side() >= 90 : grid.least_side() >= 160)
        if (grid.sheet().height <= page) return grid.sheet();
  }
  for (int c = std::min(most, 4); c > 1; --c)
    if (const Grid grid(figure, paper, c); grid.least_side() >= 60) return grid.sheet();
  return Grid(figure, paper, 1).sheet();
}

std::vector<std::string> filled_up(std::vector<std::string> ticks, std::size_t n) {
  for (std::size_t i = ticks.size(); i < n; ++i) ticks.push_back(std::to_string(i));
  ticks.resize(n);
  for (std::string& tick : ticks) tick = fitted(tick, 170);
  return ticks;
}

// Every so many of them that they are `apart` pixels from one another.
std::vector<Tick> some_of(const std::vector<std::string>& texts, double cell, double apart) {
  const auto every = std::size_t(std::max(1.0, std::ceil(apart / cell - 0.05)));
  std::vector<Tick> ticks;
  for (std::size_t i = 0; i < texts.size(); i += every) ticks.push_back({double(i), texts[i]});
  return ticks;
}

bool are_numbers(const std::vector<std::string>& texts) {
  return std::all_of(texts.begin(), texts.end(), [](const std::string& t) {
    return !t.empty() && t.find_first_not_of("0123456789") == t.npos;
  });
}

}  // namespace

Paper paper_of(FigureSize size) {
  switch (size) {
    case FigureSize::slide: return {13.333 * 72 / 18 * letter, 7.5 * 72 / 18 * letter, 18 / letter / 72, 144, 16.5};
    case FigureSize::column: return {3.4 * 72 / 8.8 * letter, 0, 8.8 / letter / 72, 300, 14.5};   // subscripts: 7
    default: return {};
  }
}

Sheet sheet_of(const Figure& figure, const Paper& paper) {
  const int n = std::max(int(figure.panels.size()), 1), most = figure.columns > 0 ? std::min(figure.columns, n) : n;
  if (paper.height > 0) return on_slide(figure, paper, n);
  return paper.tight() ? in_column(figure, paper, most) : Grid(figure, paper, most).sheet();
}

// ---- Heatmaps ------------------------------------------------------------------------------------------------------
std::size_t columns_of(const Heatmap& map) { return map.values.empty() ? 0 : map.values.front().size(); }

CellNumbers numbers_in(const Heatmap& map, double cell) {
  if (map.decimals < 0) return {};
  const double height = std::clamp(cell * (map.decimals > 0 ? 0.3 : 0.42), 10.4, 14.0);   // 7 points in a column
  double widest = 0;
  for (const auto& row : map.values)
    for (const double v : row) widest = std::max(widest, width_of(Text(fixed(v, map.decimals)), height));
  return {widest <= cell * 0.96 && height <= cell, height};
}

CellTicks x_ticks_of(const Heatmap& map, double cell) {
  const std::vector<std::string> texts = filled_up(map.x_ticks, columns_of(map));
  const double widest = width_of(texts);
  if (widest + 5 <= cell) return {some_of(texts, cell, widest), false, 18};
  if (are_numbers(texts)) return {some_of(texts, cell, widest + 8), false, 18};
  return {some_of(texts, cell, letter + 2), true, 8 + 0.75 * widest};
}

CellTicks y_ticks_of(const Heatmap& map, double cell) {
  const std::vector<std::string> texts = filled_up(map.y_ticks, map.values.size());
  return {some_of(texts, cell, letter + 2), false, width_of(texts) + tick_gap};
}

}  // namespace surgeon
