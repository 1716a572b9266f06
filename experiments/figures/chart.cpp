#include "experiments/figures/chart.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include <fmt/format.h>

#include "experiments/figures/text.hpp"
#include "framework/diagnostics.hpp"

namespace surgeon {
namespace {

struct Extent {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  bool empty() const { return low > high; }
  void add(double value) { low = std::min(low, value), high = std::max(high, value); }
};

// ---- The bins of a histogram ---------------------------------------------------------------------------------------
std::vector<double> on_axis(const Histogram& h, const std::vector<double>& values) {   // logarithms where it is one
  std::vector<double> shown;
  for (const double v : values)
    if (std::isfinite(v) && (!h.log_x || v > 0)) shown.push_back(h.log_x ? std::log10(v) : v);
  return shown;
}

// Freedman and Diaconis: 2 (quartile distance) / cube root of n; between 5 and 60 of them.
int number_of_bins(const Histogram& h, const Extent& all) {
  if (h.bins > 0) return h.bins;
  int most = 5;
  for (const Samples& s : h.samples) {
    std::vector<double> values = on_axis(h, s.values);
    if (values.empty()) continue;
    std::sort(values.begin(), values.end());
    const double width = 2 * (quantile(values, 0.75) - quantile(values, 0.25)) / std::cbrt(double(values.size()));
    if (width > 0) most = int(std::max<double>(most, std::min(60.0, std::ceil((all.high - all.low) / width))));
  }
  return most;
}

// ---- Ticks ---------------------------------------------------------------------------------------------------------
std::string superscript(int n) {
  static const char* digits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string text = n < 0 ? "⁻" : "";
  for (char c : std::to_string(std::abs(n))) text += digits[c - '0'];
  return text;
}

// Powers of ten, at most `most`.
std::vector<Tick> decades(int first, int last, int most) {
  const int every = std::max(1, (last - first + most) / most);
  std::vector<Tick> ticks;
  for (int e = first; e <= last; e += every) ticks.push_back({std::pow(10.0, e), "10" + superscript(e)});
  return ticks;
}

std::string short_number(double mantissa, int e) {
  if (e >= -3 && e <= 4) return fmt::format("{:.6g}", mantissa * std::pow(10.0, e));
  return fmt::format("{:g}·10{}", mantissa, superscript(e));
}

// Powers of ten where there are three or more; else 1, 2 and 5 times them; else round numbers.
std::vector<Tick> log_ticks(double low, double high, int most) {
  const double slack = 1e-9;
  const int first = int(std::ceil(std::log10(low) - slack)), last = int(std::floor(std::log10(high) + slack));
  if (last - first >= 2) return decades(first, last, most);
  std::vector<Tick> ticks;
  for (int e = first - 1; e <= last; ++e)
    for (const double m : {1.0, 2.0, 5.0})
      if (const double at = m * std::pow(10.0, e); at >= low * (1 - slack) && at <= high * (1 + slack))
        ticks.push_back({at, short_number(m, e)});
  return ticks.size() >= 2 ? ticks : round_numbers(low, high, most);
}

// So few that none touches the next, where `size` is that of one along the axis.
void thin_out(Axis& axis, double length, const std::function<double(const Tick&)>& size) {
  if (axis.ticks.size() < 2) return;
  const auto place = [&](double x) { return axis.log ? std::log(x) : x; };
  const double unit = length / (place(axis.high) - place(axis.low));
  const auto touch = [&](const Tick& a, const Tick& b) {
    return (place(b.at) - place(a.at)) * unit < (size(a) + size(b)) / 2;
  };
  for (std::size_t every = 1; every < axis.ticks.size(); ++every) {
    std::vector<Tick> kept;
    for (std::size_t i = 0; i < axis.ticks.size(); i += every) kept.push_back(axis.ticks[i]);
    bool free = true;
    for (std::size_t i = 1; i < kept.size(); ++i) free = free && !touch(kept[i - 1], kept[i]);
    if (!free && every + 1 < axis.ticks.size()) continue;
    axis.ticks = kept;
    return;
  }
}

// ---- Axes ----------------------------------------------------------------------------------------------------------
Extent heights_of(const Chart& chart) {
  Extent y;
  for (const Series& s : chart.series)
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      if (!can_show(chart, s.x[i], s.y[i])) continue;
      y.add(s.y[i]);
      if (i < s.high.size() && std::isfinite(s.high[i])) y.add(s.high[i]);
      if (i < s.low.size() && can_show(chart, s.x[i], s.low[i])) y.add(s.low[i]);
    }
  for (const ReferenceLine& r : chart.references)
    if (can_show(chart, 1, r.y)) y.add(r.y);
  if (chart.mark == Mark::bar && !y.empty()) y.add(0);
  return y;
}

std::set<double> places_of(const Chart& chart) {
  std::set<double> xs;
  for (std::size_t k = 0; k < chart.series.size(); ++k)
    for (std::size_t i = 0; i < chart.series[k].x.size(); ++i) {
      if (!can_show(chart, chart.series[k].x[i], chart.series[k].y[i])) continue;
      if (chart.mark == Mark::bar) xs.insert({chart.ends[k][i].first, chart.ends[k][i].second});
      else xs.insert(chart.series[k].x[i]);
    }
  return xs;
}

std::vector<Tick> x_ticks(const Chart& chart, const Axis& axis, const std::set<double>& xs) {
  std::vector<Tick> ticks;
  for (std::size_t i = 0; i < chart.names.size(); ++i) ticks.push_back({double(i), chart.names[i]});
  std::vector<double> marks = chart.x_ticks;
  if (marks.empty() && axis.log && chart.mark == Mark::line && xs.size() <= 9) marks.assign(xs.begin(), xs.end());
  for (const double x : marks) ticks.push_back({x, fmt::format("{:.10g}", x)});
  if (!ticks.empty()) return ticks;
  return axis.log ? log_ticks(axis.low, axis.high, 7) : round_numbers(axis.low, axis.high, 8);
}

Axis x_axis(const Chart& chart, double width) {
  const std::set<double> xs = places_of(chart);
  if (xs.empty()) return {};
  Axis axis{.log = chart.log_x};
  const double a = *xs.begin(), b = *xs.rbegin();
  const double pad = axis.log ? (a < b ? std::pow(b / a, 0.04) : 2) : (a < b ? (b - a) * 0.03 : 1);
  axis.low = axis.log ? a / pad : a - pad;
  axis.high = axis.log ? b * pad : b + pad;
  axis.ticks = x_ticks(chart, axis, xs);
  thin_out(axis, width, [](const Tick& tick) { return width_of(Text(tick.text)) + 8; });
  return axis;
}

Axis y_axis(const Chart& chart, double height) {
  const Extent y = heights_of(chart);
  if (y.empty()) return {};
  const int most = std::clamp(int(height / 26), 3, 8);
  if (chart.log_y) {
    const double pad = std::pow(std::max(y.high / y.low, 1.5), 0.06);
    Axis axis{.log = true, .low = y.low / pad, .high = y.high * pad};
    axis.ticks = log_ticks(axis.low, axis.high, most);
    thin_out(axis, height, [](const Tick&) { return letter + 4; });
    return axis;
  }
  const double pad = y.high > y.low ? 0.06 * (y.high - y.low) : std::max(std::abs(y.high) * 0.1, 0.1);
  const double low = y.low >= 0 ? std::max(0.0, y.low - pad) : y.low - pad;
  Axis axis{.low = std::isnan(chart.y_low) ? low : chart.y_low,
            .high = std::isnan(chart.y_high) ? y.high + pad : chart.y_high};
  axis.ticks = round_numbers(axis.low, axis.high, most);
  return axis;
}

}  // namespace

// ---- One thing of many ---------------------------------------------------------------------------------------------
Chart chart_of(const LineChart& chart) { return {chart}; }

Chart chart_of(const Scatter& s) {
  return {{.title = s.title, .x_label = s.x_label, .y_label = s.y_label, .series = s.series,
           .references = s.references, .log_x = s.log_x, .log_y = s.log_y}, Mark::point};
}

Chart chart_of(const Bars& bars) {
  Chart chart{{.title = bars.title, .x_label = bars.x_label, .y_label = bars.y_label, .series = bars.series,
               .references = bars.references}, Mark::bar};
  chart.names = bars.names;
  const double width = 0.8 / double(std::max<std::size_t>(bars.series.size(), 1));
  for (std::size_t k = 0; k < chart.series.size(); ++k) {
    chart.series[k].x.clear();
    chart.ends.emplace_back();
    for (std::size_t i = 0; i < chart.series[k].y.size(); ++i) {
      const double left = double(i) - 0.4 + double(k) * width;
      chart.series[k].x.push_back(left + width / 2);
      chart.ends.back().emplace_back(left, left + width);
    }
  }
  return chart;
}

Chart chart_of(const Histogram& h) {
  Chart chart{{.title = h.title, .x_label = h.x_label, .y_label = h.y_label, .log_x = h.log_x}, Mark::bar};
  Extent all;
  for (const Samples& s : h.samples)
    for (const double v : on_axis(h, s.values)) all.add(v);
  const int bins = all.empty() ? 0 : number_of_bins(h, all);
  const double width = all.high > all.low ? (all.high - all.low) / bins : 1;
  const auto back = [&](double v) { return h.log_x ? std::pow(10.0, v) : v; };
  for (const Samples& s : h.samples) {
    Series& bars = chart.series.emplace_back(Series{.name = s.name, .colour = s.colour});
    chart.ends.emplace_back();
    bars.y.resize(std::size_t(bins));
    for (int b = 0; b < bins; ++b) {
      const double left = all.low + b * width;
      bars.x.push_back(back(left + width / 2));
      chart.ends.back().emplace_back(back(left), back(left + width));
    }
    for (const double v : on_axis(h, s.values))
      bars.y[std::size_t(std::clamp(int((v - all.low) / width), 0, bins - 1))] += 1 / double(s.values.size());
  }
  return chart;
}

std::vector<Tick> round_numbers(double low, double high, int most) {
  if (!(high > low) || !std::isfinite(high - low)) return {};
  const double rough = (high - low) / most, unit = std::pow(10.0, std::floor(std::log10(rough)));
  double step = unit;
  for (const double factor : {2.0, 5.0, 10.0})
    if (step < rough) step = factor * unit;
  std::vector<Tick> ticks;
  for (double k = std::ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; ++k)
    ticks.push_back({k * step, fmt::format("{:.6g}", k == 0 ? 0.0 : k * step)});
  return ticks.size() < 2 && most < 8 ? round_numbers(low, high, most + 1) : ticks;
}

Axes axes_of(const Chart& chart, double width, double height) { return {x_axis(chart, width), y_axis(chart, height)}; }

bool can_show(const Chart& chart, double x, double y) {
  return std::isfinite(x) && std::isfinite(y) && !(chart.log_x && x <= 0) && !(chart.log_y && y <= 0);
}

bool has_band(const Series& s) { return !s.x.empty() && s.low.size() == s.x.size() && s.high.size() == s.x.size(); }

}  // namespace surgeon
