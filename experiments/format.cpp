#include "experiments/format.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>

#include <fmt/format.h>

namespace surgeon {
namespace {

int exponent_of(double x) { return x == 0 ? 0 : int(std::floor(std::log10(std::abs(x)))); }

bool wants_exponent(double x) { return x != 0 && (std::abs(x) < 1e-4 || std::abs(x) >= 1e6); }

}  // namespace

std::string number(double x, int digits) {
  if (!std::isfinite(x)) return fmt::format("{}", x);
  if (x == 0) return "0";
  if (wants_exponent(x)) return fmt::format("{:.{}e}", x, std::max(digits - 2, 0));
  const int decimals = std::max(0, digits - 1 - exponent_of(x));
  return fmt::format("{:.{}f}", x, decimals);
}

std::string fixed(double x, int decimals) {
  const std::string text = fmt::format("{:.{}f}", x, decimals);
  return text.find_first_not_of("-0.") == std::string::npos ? fmt::format("{:.{}f}", 0.0, decimals) : text;
}

std::string precise(double x) { return fmt::format("{}", x); }

std::string with_error(double mean, double se) {
  if (!std::isfinite(mean) || !std::isfinite(se) || se <= 0) return number(mean, 4);
  const bool scaled = wants_exponent(mean);
  const int shift = scaled ? exponent_of(std::max(std::abs(mean), se)) : 0;
  const double unit = std::pow(10.0, shift);
  int decimals = std::max(0, -exponent_of(se / unit));
  double last = std::round(se / unit * std::pow(10.0, decimals));   // the error in units of the last digit
  if (last >= 10 && decimals > 0) {
    last = 1;   // 9.6 rounds up to the next digit
    --decimals;
  }
  std::string text = fmt::format("{:.{}f}({:.0f})", mean / unit, decimals, last);
  return scaled ? text + fmt::format("e{:+03d}", shift) : text;
}

std::size_t letters_in(const std::string& text) {
  return std::size_t(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string result = "\"";
  for (char c : text) result += c == '"' ? "\"\"" : std::string(1, c);
  return result + "\"";
}

}  // namespace surgeon
