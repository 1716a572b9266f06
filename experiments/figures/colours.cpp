#include "experiments/figures/colours.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>

#include <fmt/format.h>

namespace surgeon {
namespace {

// Okabe and Ito's colours, told apart by colour-blind eyes too; then eight more, which come with dashes.
constexpr int line_colours[] = {0x0072B2, 0xD55E00, 0x009E73, 0xAA4499, 0xE69F00, 0x56B4E9, 0x777777, 0xC8102E,
                                0x5B2DD0, 0x5DB92E, 0xE64BC8, 0x6B6A00, 0x581A14, 0xF99298, 0x0F2473, 0xB08CE0};

// Filled circle, square, triangle, diamond, triangle down, pentagon, then an empty circle and square.
struct Marker { int number; double size; };
constexpr Marker markers[] = {{7, 0.55}, {5, 0.5}, {9, 0.65}, {13, 0.7}, {11, 0.65}, {15, 0.6}, {6, 0.55}, {4, 0.5}};

Rgb rgb(int hex) { return {double(hex >> 16 & 255), double(hex >> 8 & 255), double(hex & 255)}; }

Rgb mixed(const Rgb& a, const Rgb& b, double t) {
  return {std::lerp(a[0], b[0], t), std::lerp(a[1], b[1], t), std::lerp(a[2], b[2], t)};
}

// matplotlib's viridis and ColorBrewer's Blues, Reds, Greens and RdBu.
std::vector<int> hex_stops(Palette palette) {
  switch (palette) {
    case Palette::blues:
      return {0xF7FBFF, 0xDEEBF7, 0xC6DBEF, 0x9ECAE1, 0x6BAED6, 0x4292C6, 0x2171B5, 0x08519C, 0x08306B};
    case Palette::reds:
      return {0xFFF5F0, 0xFEE0D2, 0xFCBBA1, 0xFC9272, 0xFB6A4A, 0xEF3B2C, 0xCB181D, 0xA50F15, 0x67000D};
    case Palette::greens:
      return {0xF7FCF5, 0xE5F5E0, 0xC7E9C0, 0xA1D99B, 0x74C476, 0x41AB5D, 0x238B45, 0x006D2C, 0x00441B};
    case Palette::diverging:   // RdBu, from blue to red, white in the middle
      return {0x053061, 0x2166AC, 0x4393C3, 0x92C5DE, 0xD1E5F0, 0xFFFFFF,
              0xFDDBC7, 0xF4A582, 0xD6604D, 0xB2182B, 0x67001F};
    default:
      return {0x440154, 0x482878, 0x3E4989, 0x31688E, 0x26828E, 0x1F9E89, 0x35B779, 0x6DCD59, 0xB4DE2C, 0xFDE725};
  }
}

}  // namespace

std::string hex(const Rgb& c) {
  return fmt::format("#{:02X}{:02X}{:02X}", int(c[0] + .5), int(c[1] + .5), int(c[2] + .5));
}

Look look_of(const Series& series, std::size_t i) {
  constexpr std::size_t n = std::size(line_colours);
  const std::size_t colour = series.colour >= 0 ? std::size_t(series.colour) % n : i % n;
  const bool second = colour >= n / 2;
  const Marker& marker = markers[i % std::size(markers)];
  return {rgb(line_colours[colour]), series.dashed ? "(12,6)" : second ? "(9,3,2,3)" : "solid", marker.number,
          marker.size};
}

Look look_of(const ReferenceLine& reference) {
  return {rgb(line_colours[std::size_t(reference.colour) % std::size(line_colours)]), "(6,4)", 0, 0};
}

std::vector<Rgb> stops_of(Palette palette) {
  std::vector<Rgb> stops;
  for (const int stop : hex_stops(palette)) stops.push_back(rgb(stop));
  return stops;
}

Heatmap with_scale(const Heatmap& original) {
  Heatmap map = original;
  double least = std::numeric_limits<double>::infinity(), most = -least;
  for (const auto& row : map.values)
    for (const double v : row)
      if (std::isfinite(v)) least = std::min(least, v), most = std::max(most, v);
  if (least > most) least = 0, most = 1;
  if (map.palette == Palette::diverging) {
    most = std::max(std::abs(least), std::abs(most));
    least = -(most = most > 0 ? most : 1);
  }
  if (least == most && most > 0) least = 0;   // one value everywhere
  if (std::isnan(map.low)) map.low = least;
  if (std::isnan(map.high)) map.high = most;
  if (map.low >= map.high) map.high = map.low + 1;
  return map;
}

Rgb cell_colour(const Heatmap& map, double value) {
  if (!std::isfinite(value)) return faint;
  const std::vector<Rgb> stops = stops_of(map.palette);
  const double place = std::clamp((value - map.low) / (map.high - map.low), 0.0, 1.0) * double(stops.size() - 1);
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
