#include "experiments/figures/text.hpp"

#include <algorithm>
#include <iterator>

#include "experiments/format.hpp"

namespace surgeon {
namespace {

bool is_mark(char32_t c) { return c == U'_' || c == U'^' || c == U'{' || c == U'}'; }

// Twice as wide as they are narrow: the scripts of East Asia, and pictures (Unicode's East Asian Width).
bool is_wide(char32_t c) {
  static constexpr std::pair<char32_t, char32_t> wide[] = {{0x1100, 0x115F},   {0x2E80, 0xA4CF},   {0xAC00, 0xD7A3},
                                                           {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},   {0xFF00, 0xFF60},
                                                           {0xFFE0, 0xFFE6},   {0x1F300, 0x1FAFF}, {0x20000, 0x3FFFD}};
  return std::any_of(std::begin(wide), std::end(wide), [c](auto ends) { return ends.first <= c && c <= ends.second; });
}

// DejaVu Sans, as shares of the letters' height.
double width_of(char32_t c) {
  static const std::u32string narrow = U"iljtfrI.,:;'|!()[] ", broad = U"mwMW%@";
  if (is_wide(c)) return 1;
  if (narrow.find(c) != narrow.npos) return 0.36;
  if (broad.find(c) != broad.npos) return 0.93;
  return c >= U'A' && c <= U'Z' ? 0.69 : 0.62;
}

}  // namespace

Text typeset(std::string words) {
  Text text(std::move(words));
  text.is_typeset = true;
  return text;
}

std::u32string letters_of(const std::string& text) {
  std::u32string letters;
  for (std::size_t i = 0; i < text.size();) {
    const std::optional<char32_t> c = next_character(text, i);
    i += !c;
    const bool letter = c && (*c & 0xFFFE) != 0xFFFE;
    const bool control = c && *c != U'\n' && (*c < 0x20 || (*c >= 0x7F && *c < 0xA0));
    letters += !letter ? replacement : control ? U' ' : *c;
  }
  return letters;
}

std::string utf8_of(const std::u32string& letters) {
  std::string text;
  const auto add = [&text](unsigned first, char32_t bits) { text += static_cast<char>(first | bits); };
  for (const char32_t c : letters) {
    if (c < 0x80) add(0, c);
    else if (c < 0x800) add(0xC0, c >> 6);
    else if (c < 0x10000) add(0xE0, c >> 12);
    else add(0xF0, c >> 18);
    if (c >= 0x10000) add(0x80, c >> 12 & 0x3F);
    if (c >= 0x800) add(0x80, c >> 6 & 0x3F);
    if (c >= 0x80) add(0x80, c & 0x3F);
  }
  return text;
}

double width_of(const Text& text, double height) {
  double width = 0;
  for (const char32_t c : letters_of(text.words))
    if (!text.is_typeset || !is_mark(c)) width += width_of(c);
  return width * height;
}

double width_of(const std::vector<std::string>& texts) {
  double most = 0;
  for (const std::string& text : texts) most = std::max(most, width_of(Text(text)));
  return most;
}

std::vector<Text> lines_of(const Text& text, double width, double height) {
  std::vector<Text> lines;
  const auto begin = [&](const std::string& words) {
    lines.emplace_back(words);
    lines.back().is_typeset = text.is_typeset;
  };
  const auto add = [&](const std::string& word) {
    Text longer = lines.back();
    longer.words += (longer.empty() ? "" : " ") + word;
    if (lines.back().empty() || width_of(longer, height) <= width) lines.back() = longer;
    else begin(word);
  };
  for (std::size_t i = 0; i < text.words.size();) {
    const std::size_t end = std::min(text.words.find('\n', i), text.words.size());
    begin("");
    for (std::size_t at = i; at <= end;) {
      const std::size_t space = std::min(text.words.find(' ', at), end);
      add(text.words.substr(at, space - at));
      at = space + 1;
    }
    i = end + 1;
  }
  return lines;
}

std::string fitted(const std::string& words, double width) {
  std::u32string letters = letters_of(words);
  while (letters.size() > 3 && width_of(Text(utf8_of(letters))) > width) {
    const std::size_t middle = letters.size() / 2;
    letters.replace(middle - 1, 3, U"…");
  }
  return utf8_of(letters);
}

std::string in_quotes(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? "''" : c == '\n' ? " " : std::string(1, c);
  return result + "'";
}

std::string shown(const Text& text) {
  if (!text.is_typeset) return in_quotes(text.words) + " noenhanced";
  static const std::string special = "@&~\\{}";
  std::string marked;
  bool group = false;   // inside the braces after _ or ^
  for (const char c : text.words) {
    const auto at_end = [&](std::size_t back) { return marked.size() > back ? marked[marked.size() - 1 - back] : ' '; };
    const auto is_lift = [](char mark) { return mark == '_' || mark == '^'; };
    const bool opens = c == '{' && is_lift(at_end(0)), closes = c == '}' && group;
    if (c == ' ' && (is_lift(at_end(1)) || at_end(0) == '}'))
      marked += "\u200B";   // of no width: some viewers drop a space with which a part of SVG text begins
    if (opens || closes) group = opens;
    else if (special.find(c) != special.npos) marked += '\\';
    marked += c;
  }
  return in_quotes(marked) + " enhanced";
}

Figure with_words(const Figure& original, const std::function<std::string(const std::string&)>& change) {
  Figure figure = original;
  const auto all_of = [&](auto&... texts) { ((texts.words = change(texts.words)), ...); };
  const auto each = [&](std::vector<std::string>& texts) {
    for (std::string& text : texts) text = change(text);
  };
  all_of(figure.title, figure.note);
  for (Panel& panel : figure.panels)
    std::visit([&](auto& p) {
      all_of(p.title, p.x_label, p.y_label);
      if constexpr (requires { p.series; }) for (Series& s : p.series) all_of(s.name);
      if constexpr (requires { p.references; }) for (ReferenceLine& r : p.references) all_of(r.label);
      if constexpr (requires { p.samples; }) for (Samples& s : p.samples) all_of(s.name);
      if constexpr (requires { p.names; }) each(p.names);
      if constexpr (requires { p.bar_label; }) all_of(p.bar_label), each(p.x_ticks), each(p.y_ticks);
    }, panel);
  return figure;
}

}  // namespace surgeon
