#include "experiments/figures/colours.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>

#include <fmt/format.h>

namespace surgeon {
namespace {

// Okabe and Ito's colours, told apart by colour-blind eyes too.
constexpr int line_colours[] = {0x0072B2, 0xD55E00, 0x009E73, 0xAA4499, 0xE69F00, 0x56B4E9, 0x777777};

Rgb rgb(int hex) { return {double(hex >> 16 & 255), double(hex >> 8 & 255), double(hex & 255)}; }

Rgb mixed(const Rgb& a, const Rgb& b, double t) {
  return {std::lerp(a[0], b[0], t), std::lerp(a[1], b[1], t), std::lerp(a[2], b[2], t)};
}

// matplotlib's viridis and ColorBrewer's Blues, Reds, Greens.
std::vector<int> hex_stops(Palette palette) {
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

}  // namespace

std::string hex(const Rgb& c) {
  return fmt::format("#{:02X}{:02X}{:02X}", int(c[0] + .5), int(c[1] + .5), int(c[2] + .5));
}

Rgb tint(const Rgb& colour) { return mixed(colour, {255, 255, 255}, 0.82); }

Rgb line_colour(const LineChart& chart, std::size_t i) {
  const int chosen = chart.series[i].colour >= 0 ? chart.series[i].colour : int(i);
  return rgb(line_colours[std::size_t(chosen) % std::size(line_colours)]);
}

std::vector<Rgb> stops_of(Palette palette) {
  std::vector<Rgb> stops;
  for (const int stop : hex_stops(palette)) stops.push_back(rgb(stop));
  return stops;
}

Rgb cell_colour(const Heatmap& map, double value) {
  if (!std::isfinite(value)) return faint;
  const std::vector<Rgb> stops = stops_of(map.palette);
  const double share = (value - map.low) / (map.high - map.low);
  const double place = std::clamp(share, 0.0, 1.0) * double(stops.size() - 1);
  const std::size_t i = std::min(std::size_t(place), stops.size() - 2);
  return mixed(stops[i], stops[i + 1], place - double(i));
}

// WCAG's relative luminance; the text colour with the larger contrast ratio.
bool wants_white(const Rgb& c) {
  auto linear = [](double v) { return v <= 10.31 ? v / 255 / 12.92 : std::pow((v / 255 + 0.055) / 1.055, 2.4); };
  const double luminance = 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  return luminance < 0.179;
}

}  // namespace surgeon
