// Words and samples at places of our own, as gnuplot's commands.
#pragma once

#include <string>

#include "experiments/figures/colours.hpp"
#include "experiments/figures/text.hpp"

namespace surgeon {

// What one pixel of the layout is in a terminal's own units: of its size, of its letters, of its lines, of its markers.
struct Output { double zoom = 1, letter = 1, stroke = 1, marker = 1; };

struct Pen {
  double width, height;   // of the sheet
  Output out;

  // Shares of the sheet, counted from the lower left, as gnuplot does.
  std::string x(double pixels) const;
  std::string y(double pixels) const;
  std::string share_y(double pixels) const;
  std::string font(double height) const;

  struct Style { std::string align = "left"; double height = letter; bool turned = false; };
  std::string write(const Text& text, double x, double y, const Style& style) const;
  std::string write(const Text& text, double x, double y) const { return write(text, x, y, {}); }
  std::string line(double from_x, double y, double to_x, const Look& look) const;
  std::string marker(double x, double y, const Look& look) const;
  std::string box(double left, double top, double right, double bottom, const Rgb& colour) const;
  std::string clear() const { return "unset label\nunset arrow\nunset object\n"; }
};

}  // namespace surgeon
