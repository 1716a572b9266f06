// Colours and markers of lines, colours of cells.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "experiments/figures.hpp"

namespace surgeon {

using Rgb = std::array<double, 3>;   // red, green, blue, each from 0 to 255

inline constexpr Rgb ink = {0x33, 0x33, 0x33}, faint = {0xE3, 0xE3, 0xE3}, grey = {0x8A, 0x8A, 0x8A};

std::string hex(const Rgb& colour);                    // "#0072B2"

// How the i-th series of a panel looks. None of the first sixteen is like another, in colour or by its dashes.
struct Look { Rgb colour; std::string dashes; int marker; double marker_size; };   // as gnuplot numbers markers
Look look_of(const Series& series, std::size_t i);
Look look_of(const ReferenceLine& reference);

std::vector<Rgb> stops_of(Palette palette);            // evenly spaced
Heatmap with_scale(const Heatmap& map);                // with the ends of its colours, where they were automatic
Rgb cell_colour(const Heatmap& map, double value);     // faint where there is no number; the map has its scale
bool wants_white(const Rgb& background);               // text on it; otherwise black

}  // namespace surgeon
