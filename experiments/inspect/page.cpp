#include "experiments/inspect/page.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "experiments/figures.hpp"
#include "framework/diagnostics.hpp"

namespace surgeon::inspect {
namespace {

constexpr std::size_t shown_heads = 8, shown_rows = 64, shown_columns = 64;

double total(const Numbers& x) { return std::accumulate(x.begin(), x.end(), 0.0); }

Numbers squared(Numbers x) {
  for (double& v : x) v *= v;
  return x;
}

Numbers shares(Numbers x) {
  const double all = total(x);
  for (double& v : x) v = all > 0 ? v / all : nothing;
  return x;
}

// ---- Figures -------------------------------------------------------------------------------------------------------
// The mean of what falls into each of at most `columns` bins.
Numbers binned(const Numbers& x, std::size_t columns) {
  const std::size_t n = std::min(columns, x.size());
  Numbers sums(n, 0.0), counts(n, 0.0);
  for (std::size_t i = 0; i < x.size(); ++i) {
    sums[i * n / x.size()] += x[i];
    counts[i * n / x.size()] += 1;
  }
  for (std::size_t i = 0; i < n; ++i) sums[i] /= counts[i];
  return sums;
}

std::vector<std::string> tick_labels(const std::vector<std::string>& tokens, std::int64_t first, std::int64_t of,
                                     std::int64_t columns) {
  std::vector<std::string> labels;
  const std::int64_t every =
      tokens.empty() ? (columns + 15) / 16 : (columns + 31) / 32;   // more would run into each other
  for (std::int64_t c = 0; c < columns; ++c) {
    const std::int64_t at = first + (c * of + columns - 1) / columns;
    const std::string label = std::size_t(at) < tokens.size() ? tokens[std::size_t(at)] : std::to_string(at);
    labels.push_back(c % every == 0 ? label : "");
  }
  return labels;
}

// Everything finite, the ends of the scale from the numbers themselves.
void fit_scale(Heatmap& map) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const Numbers& row : map.values)
    for (double v : row)
      if (std::isfinite(v)) low = std::min(low, v), high = std::max(high, v);
  if (!(low <= high)) low = 0, high = 1;
  for (Numbers& row : map.values)
    for (double& v : row)
      if (std::isinf(v)) v = v < 0 ? low : high;
  map.low = low;
  map.high = high > low ? high : low + 1;
}

struct ByHead {
  const char* title;
  Numbers HeadMeasures::*numbers;
  bool logarithm;
  const char* axis;
};

Heatmap by_head(const ByHead& what, const Story& story, const std::vector<HeadMeasures>& heads) {
  Heatmap map{.title = what.title,
              .x_label = what.axis,
              .y_label = "Head",
              .bar_label = what.logarithm ? "log10" : "",
              .decimals = -1};
  if (map.bar_label.empty()) map.bar_label = "mean";
  for (std::size_t h = 0; h < std::min(heads.size(), shown_rows); ++h) {
    Numbers row = binned(heads[h].*what.numbers, shown_columns);
    if (what.logarithm)
      for (double& v : row) v = std::log10(v);
    map.values.push_back(std::move(row));
    map.y_ticks.push_back(heads[h].name);
  }
  const auto all = std::int64_t((heads[0].*what.numbers).size());
  map.x_ticks = tick_labels(story.tokens, 0, all, std::int64_t(map.values[0].size()));
  fit_scale(map);
  return map;
}

Figure gradients_by_head(const Story& story, const std::vector<HeadMeasures>& heads) {
  Figure figure{
      .name = "gradients", .title = "Gradient of each query, key and value (worst head on top)", .columns = 1};
  for (const ByHead& what :
       {ByHead{"|dL/dQ|", &HeadMeasures::dQ, true, "Query"}, ByHead{"|dL/dK|", &HeadMeasures::dK, true, "Key"},
        ByHead{"|dL/dV|", &HeadMeasures::dV, true, "Value"}})
    figure.panels.push_back(by_head(what, story, heads));
  return figure;
}

Figure rows_by_head(const Story& story, const std::vector<HeadMeasures>& heads) {
  Figure figure{.name = "rows", .title = "Each query's row of weights (worst head on top)", .columns = 1};
  for (const ByHead& what : {ByHead{"Entropy (nats)", &HeadMeasures::entropy, false, "Query"},
                             ByHead{"Largest score", &HeadMeasures::largest, false, "Query"},
                             ByHead{"Norm of the softmax Jacobian", &HeadMeasures::jacobian, true, "Query"}})
    figure.panels.push_back(by_head(what, story, heads));
  return figure;
}

Heatmap panel_of(const CoarseMap& map, const std::string& title, const Story& story) {
  Heatmap panel{.title = title, .x_label = "Key", .y_label = "Query", .values = map.cells, .decimals = -1};
  panel.x_ticks = tick_labels(story.tokens, map.first, map.keys, map.columns);
  panel.y_ticks = tick_labels(map.queries == map.keys ? story.tokens : std::vector<std::string>(), map.first,
                              map.queries, map.rows);
  return panel;
}

Figure maps(const Story& story, const std::vector<HeadMeasures>& heads, std::size_t place) {
  const HeadMeasures& m = heads[place];
  Figure figure{.name = fmt::format("map_{}", place), .title = "Head " + m.name, .columns = 2};
  Heatmap weights = panel_of(m.weights, "Attention weights", story);
  weights.bar_label = "Weight";
  Heatmap scores = panel_of(m.dscores, "dL/dscores", story);
  scores.palette = Palette::diverging;
  scores.bar_label = "dL/dscore";
  figure.panels = {weights, scores};
  return figure;
}

Numbers mean_over_heads(const std::vector<HeadMeasures>& heads, Numbers HeadMeasures::*part, bool squares) {
  Numbers sum;
  for (const HeadMeasures& m : heads) {
    const Numbers one = shares(squares ? squared(m.*part) : m.*part);
    sum.resize(one.size(), 0.0);
    for (std::size_t i = 0; i < one.size(); ++i) sum[i] += one[i] / double(heads.size());
  }
  return sum;
}

Figure positions(const Story& story, const std::vector<HeadMeasures>& heads) {
  LineChart chart{.title = "Share of the squared gradient, mean over heads",
                  .x_label = "Position",
                  .y_label = "Share",
                  .log_y = true};
  const auto add = [&](const std::string& name, const Numbers& y, int colour, bool dashed) {
    Numbers x(y.size());
    std::iota(x.begin(), x.end(), 0.0);
    chart.series.push_back({.name = name, .x = x, .y = y, .colour = colour, .dashed = dashed, .points = false});
  };
  add("queries", mean_over_heads(heads, &HeadMeasures::dQ, true), 0, false);
  add("keys", mean_over_heads(heads, &HeadMeasures::dK, true), 2, false);
  add("values", mean_over_heads(heads, &HeadMeasures::dV, true), 1, false);
  add("values, from the weights alone", mean_over_heads(heads, &HeadMeasures::dV_expected, false), 1, true);
  if (story.causal) add("values, from a causal mask alone", causal_shares(std::int64_t(heads[0].dV.size())), 6, true);
  return {.name = "positions", .title = "Where along the sequence the gradient goes", .panels = {chart}};
}

// ---- The page ------------------------------------------------------------------------------------------------------
std::string escaped(const std::string& text) {
  std::string safe;
  for (char c : text)
    safe += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : c == '"' ? "&quot;" : std::string(1, c);
  return safe;
}

// The SVG of a figure that has been drawn, without what stands before it in a file of its own; "" without gnuplot.
std::string svg_of(const std::filesystem::path& folder, const std::string& name) {
  std::ifstream in(folder / (name + ".svg"));
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto start = text.find("<svg");
  return start == std::string::npos ? "" : text.substr(start);
}

std::string table_of(const std::vector<HeadRow>& rows) {
  std::string html =
      "<table><tr><th>head<th>dead rows<th>zero dL/dq<th>median |J|<th>entropy / ln n<th>largest score"
      "<th>top 10 %<th>Gini<th>largest share of dL/dV<th>at key<th>by weights alone<th>rank of output</tr>\n";
  const auto percent = [](double x) { return std::isfinite(x) ? fixed(100 * x, 1) + " %" : std::string("-"); };
  for (const HeadRow& r : rows)
    html += fmt::format("<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}</tr>\n",
                        escaped(r.name), percent(r.dead), percent(r.zero), number(r.jacobian), fixed(r.entropy, 3),
                        number(r.largest), percent(r.top), fixed(r.gini, 2), percent(r.sink), r.sink_at,
                        percent(r.sink_expected), fixed(r.output_rank, 1));
  return html + "</table>\n";
}

constexpr const char* style = R"(<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.6em}h2{font-size:1.2em;margin-top:2em}.found{font-size:1.15em;font-weight:600}
table{border-collapse:collapse;font-size:.85em;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}
td,th{padding:.25em .6em;text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}
svg{max-width:100%;height:auto}small,.notes{color:#555}
</style>)";

std::string html_of(const Story& story, const std::vector<HeadRow>& rows, const std::vector<std::string>& pictures) {
  std::string html = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>" + escaped(story.title) +
                     "</title>\n" + style + "\n<h1>" + escaped(story.title) + "</h1>\n";
  for (const std::string& sentence : story.sentences) html += "<p class=\"found\">" + escaped(sentence) + "</p>\n";
  html += "<p>" + escaped(story.facts) + "</p>\n<h2>Heads, the worst first</h2>\n" + table_of(rows);
  for (const std::string& picture : pictures) html += "<figure>" + picture + "</figure>\n";
  html += "<h2>How to read this</h2>\n<ul class=\"notes\">\n";
  for (const std::string& note : story.notes) html += "<li>" + escaped(note) + "\n";
  return html + "</ul>\n</html>\n";
}

}  // namespace

Numbers causal_shares(std::int64_t T) {
  Numbers y(static_cast<std::size_t>(T));
  double all = 0, from_here = 0;
  for (std::int64_t i = T; i >= 1; --i) {
    from_here += 1 / (double(i) * double(i));
    y[std::size_t(i - 1)] = from_here;
    all += 1 / double(i);
  }
  for (double& v : y) v /= all;
  return y;
}

HeadRow row_of(const HeadMeasures& m) {
  HeadRow r{.name = m.name};
  double choosing = 0, dead = 0, entropy = 0;
  for (std::size_t i = 0; i < m.jacobian.size(); ++i) {
    if (m.seen[i] < 2) continue;   // a query that sees one key has no choice, hence no Jacobian
    choosing += 1;
    dead += m.jacobian[i] < 1e-3;
    entropy += m.entropy[i] / std::log(m.seen[i]);
  }
  r.dead = choosing > 0 ? dead / choosing : nothing;
  r.entropy = choosing > 0 ? entropy / choosing : nothing;
  r.zero = double(std::count(m.dQ.begin(), m.dQ.end(), 0.0)) / double(m.dQ.size());
  r.jacobian = median(m.jacobian);
  r.largest = *std::max_element(m.largest.begin(), m.largest.end());
  const Numbers queries = squared(m.dQ), values = shares(squared(m.dV)), expected = shares(m.dV_expected);
  r.top = top_share(queries);
  r.gini = gini(queries);
  r.sink_at = std::max_element(values.begin(), values.end()) - values.begin();
  r.sink = values[std::size_t(r.sink_at)];
  r.sink_expected = expected[std::size_t(r.sink_at)];
  r.output_rank = m.output_rank;
  return r;
}

void write_page(Lab& lab, const Story& story, const std::vector<HeadMeasures>& heads,
                const std::vector<HeadRow>& rows) {
  std::vector<Figure> figures = {positions(story, heads), gradients_by_head(story, heads), rows_by_head(story, heads)};
  for (std::size_t i = 0; i < std::min(heads.size(), shown_heads); ++i) figures.push_back(maps(story, heads, i));
  Plotter plotter;   // not the lab's own: the page waits for the pictures
  for (const Figure& figure : figures) {
    lab.write("figures/" + figure.name + ".csv", figure_data(figure));
    plotter.start(figure, lab.folder() / "figures");
  }
  for (const std::string& failure : plotter.finish(Lab::interrupted)) lab.warn(failure);
  if (plotter.missing()) lab.warn("gnuplot is not installed, so the page has no figures; their data is in figures/");
  std::vector<std::string> pictures;
  for (const Figure& figure : figures) pictures.push_back(svg_of(lab.folder() / "figures", figure.name));
  lab.write("report.html", html_of(story, rows, pictures));
}

}  // namespace surgeon::inspect
