// The house has three floors and its arrows point down: read off the #include lines of every source.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "tests/folder.hpp"

namespace {

namespace fs = std::filesystem;

struct Include {
  std::string from;   // "layers/linear.hpp"
  std::string what;   // "framework/framework.hpp", or "vector"
  bool quoted;        // "..." and not <...>
};

void read_includes(const fs::path& file, const std::string& name, std::vector<Include>& found) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const auto hash = line.find_first_not_of(' ');
    if (hash == std::string::npos || line[hash] != '#' || line.find("include") == std::string::npos) continue;
    const auto open = line.find_first_of("<\"", hash);
    if (open == std::string::npos) continue;
    const auto close = line.find_first_of(">\"", open + 1);
    found.push_back({name, line.substr(open + 1, close - open - 1), line[open] == '"'});
  }
}

const std::vector<Include>& includes() {
  static const std::vector<Include> all = [] {
    std::vector<Include> found;
    const fs::path root = surgeon::tests::source_folder();
    for (const char* floor : {"framework", "layers", "experiments"})
      for (const auto& entry : fs::recursive_directory_iterator(root / floor))
        if (entry.path().extension() == ".hpp" || entry.path().extension() == ".cpp")
          read_includes(entry.path(), fs::relative(entry.path(), root).string(), found);
    return found;
  }();
  return all;
}

bool starts(const std::string& text, const std::string& with) { return text.rfind(with, 0) == 0; }
bool ends(const std::string& text, const std::string& with) {
  return text.size() >= with.size() && text.compare(text.size() - with.size(), with.size(), with) == 0;
}
bool third_party_arithmetic(const std::string& what) {
  return starts(what, "xtensor") || starts(what, "xsimd") || starts(what, "xtl") || starts(what, "Random123") ||
         what.find("cblas") != std::string::npos || what.find("lapack") != std::string::npos;
}
// A header at the front of its floor is public; in a folder of the floor it is private.
bool is_private(const std::string& header) { return std::count(header.begin(), header.end(), '/') > 1; }
bool is_public_header(const std::string& file) {
  return ends(file, ".hpp") && !is_private(file) && !starts(file, "experiments/");
}

int floor_of(const std::string& file) {
  const std::map<std::string, int> floors = {{"framework", 0}, {"layers", 1}, {"experiments", 2}, {"tests", 3}};
  const auto it = floors.find(file.substr(0, file.find('/')));
  return it == floors.end() ? -1 : it->second;
}

// Every include that breaks the rule, as "from -> what".
template <class Breaks>
std::vector<std::string> offenders(const Breaks& breaks) {
  std::vector<std::string> lines;
  for (const Include& i : includes())
    if (breaks(i)) lines.push_back(i.from + " -> " + i.what);
  return lines;
}

void check_none(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) FAIL_CHECK(line);
}

}  // namespace

TEST_SUITE("floors") {

TEST_CASE("the reader of #include lines sees all three floors") {
  for (int floor : {0, 1, 2})
    CHECK(std::any_of(includes().begin(), includes().end(), [=](const Include& i) { return floor_of(i.from) == floor; }));
}

TEST_CASE("no arrow points up: framework, layers, experiments") {
  check_none(offenders([](const Include& i) { return floor_of(i.what) > floor_of(i.from); }));
}

TEST_CASE("project headers are named from the root, in quotes; others in angle brackets") {
  check_none(offenders([](const Include& i) { return i.quoted != (floor_of(i.what) >= 0); }));
}

TEST_CASE("layers and experiments do their arithmetic through the framework alone") {
  check_none(offenders([](const Include& i) { return floor_of(i.from) > 0 && third_party_arithmetic(i.what); }));
}

// Benchmarks time kernels by themselves.
TEST_CASE("kernels are the framework's own") {
  check_none(offenders([](const Include& i) {
    return floor_of(i.from) > 0 && !starts(i.from, "experiments/bench/") && starts(i.what, "framework/kernels/");
  }));
}

TEST_CASE("kernels know numbers, not tensors") {
  check_none(offenders([](const Include& i) {
    return starts(i.from, "framework/kernels/") && floor_of(i.what) >= 0 && i.what != "framework/machine.hpp" &&
           !starts(i.what, "framework/kernels/");
  }));
}

TEST_CASE("an installed header needs only the standard library and other installed headers, but for xtensor.hpp") {
  check_none(offenders([](const Include& i) {
    if (!is_public_header(i.from)) return false;
    if (i.from == "framework/xtensor.hpp" && starts(i.what, "xtensor/")) return false;
    return floor_of(i.what) >= 0 ? is_private(i.what) : i.what.find_first_of("./") != std::string::npos;
  }));
}

TEST_CASE("xtensor is opt-in: no other header sees framework/xtensor.hpp") {
  check_none(offenders([](const Include& i) { return ends(i.from, ".hpp") && i.what == "framework/xtensor.hpp"; }));
}

// serialize.hpp, diagnostics.hpp and machine.hpp of the framework are apart on purpose: few files need them.
TEST_CASE("layers.hpp has every layer") {
  for (const auto& entry : fs::directory_iterator(surgeon::tests::source_folder() / "layers")) {
    const std::string header = "layers/" + entry.path().filename().string();
    if (!is_public_header(header) || header == "layers/layers.hpp") continue;
    CHECK_MESSAGE(std::any_of(includes().begin(), includes().end(),
                              [&](const Include& i) { return i.from == "layers/layers.hpp" && i.what == header; }),
                  header);
  }
}

}
