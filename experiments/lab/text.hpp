// Text for a terminal of 80 columns: bold and dim where the terminal wants them, wrapping, tables, the nearest name.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "experiments/lab.hpp"

namespace surgeon {

struct Paint {
  bool on = false;
  std::string bold(const std::string& text) const { return painted("\x1b[1m", text); }
  std::string dim(const std::string& text) const { return painted("\x1b[2m", text); }
  std::string red(const std::string& text) const { return painted("\x1b[31m", text); }

 private:
  std::string painted(const char* code, const std::string& text) const {
    if (!on || text.empty()) return text;
    const bool ends_line = text.back() == '\n';
    return code + text.substr(0, text.size() - ends_line) + "\x1b[0m" + (ends_line ? "\n" : "");
  }
};

inline constexpr std::size_t longest_line = 1000;   // characters of an error or a warning

std::string render(const Table& table, const Paint& paint);
std::string wrap(const std::string& text, std::size_t indent = 0);   // no newline at the end; keeps those inside
std::string bold_numbers(const std::string& text, const Paint& paint);
std::string as_typed(const std::string& word);    // the user's word for a message: shortened past 80 characters
// The name most like the one typed, or "" when none is near.
std::string nearest(const std::string& typed, const std::vector<std::string>& names);
// "; did you mean scaling?", or nothing.
std::string did_you_mean(const std::string& typed, const std::vector<std::string>& names);

}  // namespace surgeon
