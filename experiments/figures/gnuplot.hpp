// What gnuplot is told. plotter.cpp runs it.
#pragma once

#include <string>

#include "experiments/figures.hpp"

namespace surgeon {

// The figure once as SVG and once as PNG, into files of these names.
std::string gnuplot_script(const Figure& figure, const std::string& svg, const std::string& png);

}  // namespace surgeon
