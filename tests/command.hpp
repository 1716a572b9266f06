// For tests of the command: run it, and look at what it says and what it leaves on the disk.
#pragma once

#include <doctest/doctest.h>

#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "experiments/list.hpp"
#include "tests/folder.hpp"

namespace surgeon::tests {

// A folder of its own to run in, gone at the end.
struct Elsewhere {
  std::filesystem::path before = std::filesystem::current_path();
  Folder folder;
  Elsewhere() { std::filesystem::current_path(folder.path); }
  ~Elsewhere() { std::filesystem::current_path(before); }
};

struct Said { int exit; std::string out, err; };

inline Said surgeon_says(const std::vector<std::string>& words,
                         const std::vector<Experiment>& list = all_experiments()) {
  std::ostringstream out, err;
  const int exit = surgeon_command(list, words, out, err);
  return {exit, out.str(), err.str()};
}

inline std::string contents(const std::filesystem::path& path) {
  REQUIRE_MESSAGE(std::filesystem::is_regular_file(path), path.string());
  return read_bytes(path);
}

inline std::size_t lines(const std::string& text) { return std::size_t(std::count(text.begin(), text.end(), '\n')); }

// Every line fits a terminal of 80 columns.
inline void check_width(const std::string& text) {
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) CHECK_MESSAGE(letters_in(line) <= 80, line);
}

inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// A small experiment that does what the case needs.
inline Experiment small(std::function<void(Lab&)> body) {
  return {"small", "A question?", "Nothing is varied.", {"surgeon small"},
          [body](Options&) { return std::function<void(Lab&)>(body); }};
}

}  // namespace surgeon::tests
