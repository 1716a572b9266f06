// The README does not fall behind: what it shows is what is built, and it has a sentence for every header.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/folder.hpp"

namespace {

namespace fs = std::filesystem;

std::string read(const std::string& name) {
  std::ifstream in(surgeon::tests::source_folder() / name);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

bool shows(const std::string& code) { return read("README.md").find("```cpp\n" + code + "```") != std::string::npos; }

}  // namespace

TEST_SUITE("readme") {

TEST_CASE("the README's first example is the one that CTest builds against the installed package") {
  const std::string example = read("tests/consumer/main.cpp");
  CHECK(shows(example.substr(example.find("#include"))));
}

TEST_CASE("the README shows first_steps.cpp as it is") { CHECK(shows(read("experiments/first_steps.cpp"))); }

TEST_CASE("the README names every header of the three floors") {
  const std::string readme = read("README.md");
  for (const char* floor : {"framework", "layers", "experiments"})
    for (const auto& entry : fs::directory_iterator(surgeon::tests::source_folder() / floor))
      if (const std::string name = entry.path().filename().string(); entry.path().extension() == ".hpp")
        CHECK_MESSAGE(readme.find("`" + name + "`") != std::string::npos, floor, "/", name);
}

}
