// Which letters the fonts of this machine have. fontconfig knows, from which gnuplot takes its fonts too.
#include <algorithm>
#include <cstdio>
#include <iterator>
#include <memory>
#include <sstream>
#include <utility>

#include "experiments/figures/text.hpp"

namespace surgeon {
namespace {

using Ranges = std::vector<std::pair<char32_t, char32_t>>;

bool within(const Ranges& ranges, char32_t c) {
  return std::any_of(ranges.begin(), ranges.end(), [c](auto ends) { return ends.first <= c && c <= ends.second; });
}

// Of DejaVu Sans, gnuplot's font here: most figures have no other letters, and nobody has to be asked.
const Ranges common = {{0x0A, 0x2E9}, {0x370, 0x3FF}, {0x2010, 0x2046}, {0x2070, 0x208E},
                       {0x2190, 0x22FF}, {replacement, replacement}};

// "20-7e a0-2e9 2ec", for each font a line.
Ranges fonts() {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen("fc-list --format '%{charset}\\n' 2> /dev/null", "r"), pclose);
  std::string text, part(1 << 16, ' ');
  for (std::size_t n; pipe && (n = std::fread(part.data(), 1, part.size(), pipe.get())) > 0;) text.append(part, 0, n);
  std::istringstream words(text);
  Ranges ranges;
  for (std::string word; words >> word;) {
    const std::size_t dash = word.find('-');
    const auto end = [&](std::size_t at) { return char32_t(std::strtoul(word.c_str() + at, nullptr, 16)); };
    ranges.emplace_back(end(0), end(dash == word.npos ? 0 : dash + 1));
  }
  return ranges;
}

}  // namespace

std::set<char32_t> letters_without_font(const Figure& figure) {
  std::set<char32_t> rare;
  with_words(figure, [&rare](const std::string& words) {
    for (const char32_t c : letters_of(words))
      if (!within(common, c)) rare.insert(c);
    return words;
  });
  if (rare.empty()) return rare;
  const Ranges known = fonts();
  if (known.empty()) return {};   // fontconfig's program is not there to say
  std::erase_if(rare, [&known](char32_t c) { return within(known, c); });
  return rare;
}

}  // namespace surgeon
