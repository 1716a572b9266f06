// What gnuplot is told. plotter.cpp runs it.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "experiments/figures.hpp"

namespace surgeon {

// The figure in each format, into files of these names. In PNG and PDF, which are drawn here and now, � stands for
// letters without a font; an SVG keeps them for whoever shows it.
std::string gnuplot_script(const Figure& figure, FigureSize size,
                           const std::vector<std::pair<FigureFormat, std::string>>& files,
                           const std::set<char32_t>& without_font);

}  // namespace surgeon
