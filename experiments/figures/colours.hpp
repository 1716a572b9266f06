// Colours of lines and cells. They are mixed here rather than made transparent: SVG viewers differ on transparency.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "experiments/figures.hpp"

namespace surgeon {

using Rgb = std::array<double, 3>;   // red, green, blue, each from 0 to 255

inline constexpr Rgb ink = {0x33, 0x33, 0x33}, faint = {0xE3, 0xE3, 0xE3}, grey = {0x8A, 0x8A, 0x8A};

std::string hex(const Rgb& colour);                    // "#0072B2"
Rgb tint(const Rgb& colour);                           // pale, for a band around the line
Rgb line_colour(const LineChart& chart, std::size_t series);
std::vector<Rgb> stops_of(Palette palette);            // evenly spaced
Rgb cell_colour(const Heatmap& map, double value);     // faint where there is no number
bool wants_white(const Rgb& background);               // text on it; otherwise black

}  // namespace surgeon
