// Words for a terminal of 80 columns.
#include "experiments/lab/text.hpp"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace surgeon {

namespace {

using Line = std::vector<std::string>;   // its words

std::size_t width_of(const Line& line, std::size_t indent) {
  std::size_t width = indent;
  for (const std::string& word : line) width += letters_in(word) + 1;
  return width - !line.empty();
}

// A paragraph, whose last line never has a single word if the one before it has three or more.
std::vector<Line> lines_of(const std::string& paragraph, std::size_t indent) {
  std::vector<Line> lines(1);
  for (std::size_t i = 0; i < paragraph.size();) {
    const std::size_t end = std::min(paragraph.find(' ', i), paragraph.size());
    lines.back().push_back(paragraph.substr(i, end - i));
    if (lines.back().size() > 1 && width_of(lines.back(), indent) > 80) {
      lines.push_back({lines.back().back()});
      lines[lines.size() - 2].pop_back();
    }
    i = end + 1;
  }
  if (lines.size() > 1 && lines.back().size() == 1 && lines[lines.size() - 2].size() > 2) {
    Line& before = lines[lines.size() - 2];
    if (letters_in(before.back()) + 1 + width_of(lines.back(), indent) <= 80) {
      lines.back().insert(lines.back().begin(), before.back());
      before.pop_back();
    }
  }
  return lines;
}

bool in_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || (c & 0x80); }

// Where the number that begins at `i` ends: "16", "-0.43", "1.0e-05", "16387(101)", "47 %".
std::size_t number_end(const std::string& text, std::size_t i) {
  const auto skip = [&](const char* letters) { return std::min(text.find_first_not_of(letters, i), text.size()); };
  const auto at = [&](std::size_t k) { return k < text.size() ? text[k] : ' '; };
  const auto digit = [&](std::size_t k) { return std::isdigit(static_cast<unsigned char>(at(k))) != 0; };
  if (at(i) == '-') ++i;
  if (!digit(i)) return 0;
  i = skip("0123456789");
  if (at(i) == '.' && digit(i + 1)) i = (++i, skip("0123456789"));
  if (at(i) == '(' && digit(i + 1)) i = (++i, skip("0123456789)"));
  if (at(i) == 'e' && (digit(i + 1) || digit(i + 2))) i = (i += 2, skip("0123456789"));
  if (at(i) == ' ' && at(i + 1) == '%') i += 2;
  return i < text.size() && in_word(text[i]) ? 0 : i;
}

}  // namespace

std::string wrap(const std::string& text, std::size_t indent) {
  std::string result;
  for (std::size_t i = 0; i <= text.size();) {
    const std::size_t end = std::min(text.find('\n', i), text.size());
    for (const Line& line : lines_of(text.substr(i, end - i), indent))
      result += fmt::format("{}{:{}}{}", result.empty() && i == 0 ? "" : "\n", "", indent, fmt::join(line, " "));
    i = end + 1;
  }
  return result;
}

std::string bold_numbers(const std::string& text, const Paint& paint) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t end = i > 0 && (in_word(text[i - 1]) || text[i - 1] == '.') ? 0 : number_end(text, i);
    result += end ? paint.bold(text.substr(i, end - i)) : std::string(1, text[i]);
    i = end ? end : i + 1;
  }
  return result;
}

std::string as_typed(const std::string& word) {
  if (letters_in(word) <= 80) return word;
  std::size_t end = 0;
  for (std::size_t letters = 0; letters <= 77; ++end) letters += (word[end] & 0xC0) != 0x80;
  return word.substr(0, end - 1) + "...";
}

std::string nearest(const std::string& typed, const std::vector<std::string>& names) {
  if (typed.size() > 100) return "";   // no name is as long
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, typed.size() / 3) + 1;
  for (const std::string& name : names) {
    std::vector<std::size_t> row(name.size() + 1);   // Levenshtein's distance, one row at a time
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < typed.size(); ++i) {
      std::size_t diagonal = std::exchange(row[0], i + 1);
      for (std::size_t k = 0; k < name.size(); ++k) {
        const std::size_t replaced = diagonal + (typed[i] != name[k]);
        diagonal = std::exchange(row[k + 1], std::min({replaced, row[k] + 1, row[k + 1] + 1}));
      }
    }
    const bool starts = typed.size() > 1 && name.starts_with(typed);
    const std::size_t distance = starts ? 1 : row.back();
    if (distance < best_distance && distance < name.size()) {
      best_distance = distance;
      best = name;
    }
  }
  return best;
}

std::string did_you_mean(const std::string& typed, const std::vector<std::string>& names) {
  const std::string name = nearest(typed, names);
  return name.empty() ? "" : fmt::format("; did you mean {}?", name);
}

}  // namespace surgeon
