#include "experiments/format.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <sstream>

#include <fmt/format.h>

namespace surgeon {
namespace {

int exponent_of(double x) { return x == 0 ? 0 : int(std::floor(std::log10(std::abs(x)))); }

bool wants_exponent(double x) { return x != 0 && (std::abs(x) < 1e-4 || std::abs(x) >= 1e6); }

// What a terminal obeys instead of showing it.
bool acts(char32_t c) {
  const bool control = c < 0x20 || (c >= 0x7f && c < 0xa0);
  const bool turns = c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
                     (c >= 0x2066 && c <= 0x2069);
  return control || turns;
}

std::string without_actions(const std::string& text, const std::string& kept) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    const std::optional<char32_t> c = next_character(text, i);
    if (!c) result += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[i++]));
    else if (!acts(*c) || kept.find(text[begin]) != std::string::npos) result.append(text, begin, i - begin);
    else if (*c < 0x80) result += fmt::format("\\x{:02x}", std::uint32_t(*c));
    else result += fmt::format("\\u{:04x}", std::uint32_t(*c));
  }
  return result;
}

}  // namespace

std::string number(double x, int digits) {
  if (!std::isfinite(x)) return precise(x);
  if (x == 0) return "0";
  if (wants_exponent(x)) return fmt::format("{:.{}e}", x, std::max(digits - 2, 0));
  const int decimals = std::max(0, digits - 1 - exponent_of(x));
  return fmt::format("{:.{}f}", x, decimals);
}

std::string percent(double share) { return number(100 * share, 3) + " %"; }

std::string fixed(double x, int decimals) {
  if (!std::isfinite(x)) return precise(x);
  const std::string text = fmt::format("{:.{}f}", x, decimals);
  return text.find_first_not_of("-0.") == std::string::npos ? fmt::format("{:.{}f}", 0.0, decimals) : text;
}

std::string precise(double x) { return std::isnan(x) ? "nan" : fmt::format("{}", x); }   // a nan has no sign

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

std::optional<char32_t> next_character(const std::string& text, std::size_t& i) {
  const auto first = static_cast<unsigned char>(text[i]);
  const int more = first < 0x80 ? 0 : first >> 5 == 6 ? 1 : first >> 4 == 14 ? 2 : first >> 3 == 30 ? 3 : -1;
  if (more < 0 || i + std::size_t(more) >= text.size()) return {};
  char32_t c = more == 0 ? first : first & (0x3f >> more);
  for (int k = 1; k <= more; ++k) {
    const auto next = static_cast<unsigned char>(text[i + std::size_t(k)]);
    if (next >> 6 != 2) return {};
    c = c << 6 | (next & 0x3f);
  }
  static constexpr char32_t smallest[] = {0, 0x80, 0x800, 0x10000};   // longer than need be, or half of a pair: none
  if (c < smallest[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return {};
  i += std::size_t(more) + 1;
  return c;
}

std::string printable(const std::string& text) { return without_actions(text, ""); }
std::string printable_lines(const std::string& text) { return without_actions(text, "\n\t"); }

std::string shortened(const std::string& text, std::size_t most) {
  if (text.size() <= most || letters_in(text) <= most) return text;
  const auto starts = [&](std::size_t i) { return (text[i] & 0xC0) != 0x80; };   // a character
  std::size_t end = 0, begin = text.size();
  for (std::size_t letters = 0; letters <= most * 2 / 3 - 3; ++end) letters += starts(end);
  for (std::size_t letters = 0; letters < most / 3; letters += starts(begin)) --begin;
  return text.substr(0, end - 1) + "..." + text.substr(begin);
}

std::string shell_word(const std::string& text) {
  const auto plain = [](char c) {
    const bool letter = std::isalnum(static_cast<unsigned char>(c)) || (c & 0x80);
    return letter || std::string("_-./:=,+@%").find(c) != std::string::npos;
  };
  const bool shown = printable(text) == text;
  if (shown && !text.empty() && std::all_of(text.begin(), text.end(), plain)) return text;
  std::string word = shown ? "'" : "$'";
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (shown) word += c == '\'' ? "'\\''" : std::string(1, c);
    else if (c == '\'' || c == '\\') word += std::string("\\") + c;
    else word += byte < 0x20 || byte >= 0x7f ? fmt::format("\\{:03o}", byte) : std::string(1, c);
  }
  return word + "'";
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string result = "\"";
  for (char c : text) result += c == '"' ? "\"\"" : std::string(1, c);
  return result + "\"";
}

}  // namespace surgeon
