// The house has three floors, and each floor has rooms (README, "The house"): read off the #include lines.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
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
    for (const char* floor : {"framework", "layers", "experiments", "tests"})
      for (const auto& entry : fs::recursive_directory_iterator(root / floor))
        if (entry.path().extension() == ".hpp" || entry.path().extension() == ".cpp")
          read_includes(entry.path(), fs::relative(entry.path(), root).string(), found);
    return found;
  }();
  return all;
}

// ---- Floors and rooms ----------------------------------------------------------------------------------------------

int floor_of(const std::string& file) {
  const std::map<std::string, int> floors = {{"framework", 0}, {"layers", 1}, {"experiments", 2}, {"tests", 3}};
  const auto it = floors.find(file.substr(0, file.find('/')));
  return it == floors.end() ? -1 : it->second;
}

bool in_folder(const std::string& file) { return std::count(file.begin(), file.end(), '/') > 1; }
bool is_header(const std::string& file) { return file.ends_with(".hpp"); }

// A pair name.hpp and name.cpp at the front of its floor, and the folder of that name: "framework/serialize".
std::string room_of(const std::string& file) {
  const auto floor_end = file.find('/') + 1;
  const std::string room = file.substr(0, file.find_first_of("/.", floor_end));
  return room == "framework/detail" ? "framework/tensor" : room;   // the inside of a tensor, open to its whole floor
}

// Who may include a header in a folder: its own room; for the framework's kernels and the inside of its tensors, its
// whole floor. Benchmarks and tests look at kernels by themselves; what the tests share is nobody's secret.
bool may_open(const std::string& from, const std::string& what) {
  if (!in_folder(what) || room_of(from) == room_of(what) || floor_of(what) == 3) return true;
  if (what.starts_with("framework/kernels/"))
    return floor_of(from) == 0 || floor_of(from) == 3 || from.starts_with("experiments/bench/");
  return what.starts_with("framework/detail/") && floor_of(from) == 0;
}

using Arrows = std::map<std::string, std::set<std::string>>;

Arrows arrows_between_rooms(const std::vector<Include>& all) {
  Arrows arrows;
  for (const Include& i : all)
    if (floor_of(i.what) >= 0 && room_of(i.from) != room_of(i.what)) arrows[room_of(i.from)].insert(room_of(i.what));
  return arrows;
}

// "a -> b -> a" when one can walk from a room back to it, else empty.
std::string circle_in(const Arrows& arrows) {
  std::set<std::string> finished;
  std::vector<std::string> way;
  const auto walk = [&](const auto& self, const std::string& room) -> std::string {
    if (finished.contains(room)) return {};
    const auto start = std::find(way.begin(), way.end(), room);
    if (start != way.end()) {
      std::string circle;
      for (auto it = start; it != way.end(); ++it) circle += *it + " -> ";
      return circle + room;
    }
    way.push_back(room);
    if (const auto from = arrows.find(room); from != arrows.end())
      for (const std::string& next : from->second)
        if (const std::string circle = self(self, next); !circle.empty()) return circle;
    way.pop_back();
    finished.insert(room);
    return {};
  };
  for (const auto& arrow : arrows)
    if (const std::string circle = walk(walk, arrow.first); !circle.empty()) return circle;
  return {};
}

// Everything that including one header brings, itself too.
std::set<std::string> reach(const std::string& header) {
  std::set<std::string> reached;
  std::vector<std::string> todo{header};
  while (!todo.empty()) {
    const std::string file = todo.back();
    todo.pop_back();
    if (!reached.insert(file).second) continue;
    for (const Include& i : includes())
      if (i.from == file) todo.push_back(i.what);
  }
  return reached;
}

// Installed: what stands at the front of a library. Of experiments/ it is the lab, what it draws with, and their needs.
bool is_installed(const std::string& header) {
  static const std::set<std::string> lab = reach("experiments/lab.hpp"), figures = reach("experiments/figures.hpp");
  if (!is_header(header) || in_folder(header)) return false;
  return floor_of(header) == 0 || floor_of(header) == 1 || lab.contains(header) || figures.contains(header);
}

// Every include that breaks a rule is a failure, told as "from -> what".
template <class Breaks>
void check_none(const Breaks& breaks) {
  for (const Include& i : includes())
    if (breaks(i)) FAIL_CHECK(i.from, " -> ", i.what);
}

bool third_party_arithmetic(const std::string& what) {
  return what.starts_with("xtensor") || what.starts_with("xsimd") || what.starts_with("xtl") ||
         what.starts_with("Random123") || what.find("cblas") != std::string::npos ||
         what.find("lapack") != std::string::npos;
}

}  // namespace

TEST_SUITE("floors") {

TEST_CASE("the reader of #include lines sees every floor") {
  for (int floor : {0, 1, 2, 3})
    CHECK(std::any_of(includes().begin(), includes().end(), [=](const auto& i) { return floor_of(i.from) == floor; }));
}

TEST_CASE("no arrow points up: framework, layers, experiments, tests") {
  check_none([](const Include& i) { return floor_of(i.what) > floor_of(i.from); });
}

TEST_CASE("no room leads back to itself") { CHECK(circle_in(arrows_between_rooms(includes())) == ""); }

TEST_CASE("a circle of rooms is found, also one that runs through .cpp files and folders") {
  const std::vector<Include> tree = {{"layers/a.hpp", "layers/b.hpp", true},
                                     {"layers/a.cpp", "layers/a/inside.hpp", true},
                                     {"layers/b.cpp", "framework/tensor.hpp", true},
                                     {"layers/b.cpp", "layers/c.hpp", true}};
  CHECK(circle_in(arrows_between_rooms(tree)) == "");
  std::vector<Include> bent = tree;
  bent.push_back({"layers/c/deep.cpp", "layers/a.hpp", true});
  CHECK(circle_in(arrows_between_rooms(bent)) == "layers/a -> layers/b -> layers/c -> layers/a");
  bent = tree;
  bent.push_back({"layers/b.cpp", "layers/a.hpp", true});
  CHECK(circle_in(arrows_between_rooms(bent)) == "layers/a -> layers/b -> layers/a");
}

TEST_CASE("a header in a folder is included from its own room only") {
  check_none([](const Include& i) { return floor_of(i.what) >= 0 && !may_open(i.from, i.what); });
}

TEST_CASE("which folders are open to whom") {
  CHECK(may_open("layers/attention.cpp", "layers/attention/inputs.hpp"));
  CHECK(may_open("layers/attention/inputs.cpp", "layers/attention/inputs.hpp"));
  CHECK(may_open("framework/probe.cpp", "framework/detail/node.hpp"));
  CHECK(may_open("framework/ops/norms.cpp", "framework/kernels/rows.hpp"));
  CHECK(may_open("tests/test_kernel_rows.cpp", "framework/kernels/rows.hpp"));
  CHECK(may_open("tests/test_golden.cpp", "tests/golden/golden.hpp"));
  CHECK_FALSE(may_open("layers/linear.cpp", "layers/attention/inputs.hpp"));
  CHECK_FALSE(may_open("layers/linear.cpp", "framework/detail/node.hpp"));
  CHECK_FALSE(may_open("layers/linear.cpp", "framework/kernels/rows.hpp"));
  CHECK_FALSE(may_open("framework/random.cpp", "framework/ops/common.hpp"));
  CHECK_FALSE(may_open("tests/test_tensor.cpp", "framework/detail/node.hpp"));
}

TEST_CASE("project headers are named from the root, in quotes; others in angle brackets") {
  check_none([](const Include& i) { return i.quoted != (floor_of(i.what) >= 0); });
}

TEST_CASE("layers and experiments do their arithmetic through the framework alone") {
  check_none([](const Include& i) {
    return (floor_of(i.from) == 1 || floor_of(i.from) == 2) && third_party_arithmetic(i.what);
  });
}

TEST_CASE("kernels know numbers, not tensors") {
  check_none([](const Include& i) {
    return room_of(i.from) == "framework/kernels" && floor_of(i.what) >= 0 && room_of(i.what) != "framework/kernels";
  });
}

// framework/xtensor.hpp is the bridge to xtensor for those who include it: no other header does.
TEST_CASE("an installed header needs only the standard library and other installed headers") {
  check_none([](const Include& i) {
    if (!is_installed(i.from)) return false;
    if (floor_of(i.what) >= 0) return !is_installed(i.what) || i.what == "framework/xtensor.hpp";
    const bool bridge = i.from == "framework/xtensor.hpp" && i.what.starts_with("xtensor/");
    return i.what.find_first_of("./") != std::string::npos && !bridge;
  });
}

// What an umbrella leaves out on purpose, its opening comment names.
TEST_CASE("framework.hpp and layers.hpp bring every header of their floor but those they name as apart") {
  for (const std::string floor : {"framework", "layers"}) {
    const std::string umbrella = floor + "/" + floor + ".hpp";
    const std::string text = surgeon::tests::read_bytes(surgeon::tests::source_folder() / umbrella);
    const std::string opening = text.substr(0, text.find("#pragma once"));
    const std::set<std::string> brought = reach(umbrella);
    for (const auto& entry : fs::directory_iterator(surgeon::tests::source_folder() / floor)) {
      const std::string name = entry.path().filename().string(), header = floor + "/" + name;
      if (!is_header(header)) continue;
      CHECK_MESSAGE(brought.contains(header) != (opening.find(" " + name) != std::string::npos), header);
    }
  }
}

}
