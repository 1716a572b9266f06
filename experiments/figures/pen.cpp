#include "experiments/figures/pen.hpp"

#include <fmt/format.h>

namespace surgeon {

std::string Pen::x(double pixels) const { return fmt::format("{:.5f}", pixels / width); }
std::string Pen::y(double pixels) const { return fmt::format("{:.5f}", 1 - pixels / height); }
std::string Pen::share_y(double pixels) const { return fmt::format("{:.5f}", pixels / height); }
std::string Pen::font(double size) const { return fmt::format("font ',{:.2f}'", size * out.letter); }

std::string Pen::write(const Text& text, double at_x, double at_y, const Style& style) const {
  if (text.empty()) return "";
  return fmt::format("set label {} at screen {},{} {} {} {} tc rgb '{}'\n", shown(text), x(at_x), y(at_y), style.align,
                     style.turned ? "rotate by 90" : "norotate", font(style.height), hex(ink));
}

std::string Pen::line(double from_x, double at_y, double to_x, const Look& look) const {
  return fmt::format("set arrow from screen {},{} to screen {},{} nohead lw {:.2f} dt {} lc rgb '{}'\n", x(from_x),
                     y(at_y), x(to_x), y(at_y), 2 * out.stroke, look.dashes, hex(look.colour));
}

std::string Pen::marker(double at_x, double at_y, const Look& look) const {
  return fmt::format("set label '' at screen {},{} point pt {} ps {:.3f} lw {:.2f} lc rgb '{}'\n", x(at_x), y(at_y),
                     look.marker, out.marker * look.marker_size, 2 * out.stroke, hex(look.colour));
}

std::string Pen::box(double left, double top, double right, double bottom, const Rgb& colour) const {
  return fmt::format("set object rectangle from screen {},{} to screen {},{} fc rgb '{}' fs transparent solid 0.55 "
                     "noborder\n", x(left), y(bottom), x(right), y(top), hex(colour));
}

}  // namespace surgeon
