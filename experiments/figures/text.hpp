// Words in a figure: letters, how wide they are, lines of them, and what gnuplot has to be told to show them.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "experiments/figures.hpp"

namespace surgeon {

inline constexpr char32_t replacement = U'\uFFFD';

// The letters of UTF-8; � for what is not UTF-8 or cannot be in an XML file, a space for other control characters.
std::u32string letters_of(const std::string& utf8);
std::string utf8_of(const std::u32string& letters);

inline constexpr double letter = 13;   // the height of most letters, in pixels of the layout
double width_of(const Text& text, double height = letter);   // in the same pixels, about
double width_of(const std::vector<std::string>& texts);      // of the widest
std::vector<Text> lines_of(const Text& text, double width, double height);   // broken at newlines and spaces
std::string fitted(const std::string& words, double width);               // its middle left out where it is too long

std::string shown(const Text& text);             // as gnuplot wants it, typeset or as it is
std::string in_quotes(const std::string& text);  // in single quotes, where only the quote itself means something

// Figures with all their words replaced by what `change` makes of them.
Figure with_words(const Figure& figure, const std::function<std::string(const std::string&)>& change);
// Those that no font of this machine has, as far as fontconfig can say.
std::set<char32_t> letters_without_font(const Figure& figure);

}  // namespace surgeon
