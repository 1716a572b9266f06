// Words for a terminal of 80 columns.
#include "experiments/lab/text.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include <fmt/format.h>

namespace surgeon {

std::string wrap(const std::string& text, std::size_t indent) {
  std::string result, line(indent, ' ');
  bool fresh = true;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '\n') {
      result += line + "\n";
      line.assign(indent, ' ');
      fresh = true;
      ++i;
      continue;
    }
    const std::size_t end = std::min(text.find_first_of(" \n", i), text.size());
    const std::string word = text.substr(i, end - i);
    if (!fresh && letters_in(line) + 1 + letters_in(word) > 80) {
      result += line + "\n";
      line.assign(indent, ' ');
      fresh = true;
    }
    if (!fresh) line += ' ';
    line += word;
    fresh = false;
    i = end < text.size() && text[end] == ' ' ? end + 1 : end;
  }
  return result + line;
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
