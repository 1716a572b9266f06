// Figures: drawn beside their data, whatever the text and the numbers.
#include <doctest/doctest.h>

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "experiments/figures.hpp"
#include "tests/command.hpp"

using namespace surgeon;
using namespace surgeon::tests;
namespace fs = std::filesystem;

TEST_SUITE("figures") {

TEST_CASE("figures: SVG and PNG beside the data; tokens with gnuplot's special characters come as they are") {
  if (std::system("gnuplot --version > /dev/null 2>&1") != 0) return;
  const Elsewhere e;
  CHECK(surgeon_says({"heatmap", "--tokens", "a_b c^2 {x} it's \"q\" <t>&", "--title", "50% 'of' \\n", "--out", "a"})
            .err == "");
  const std::string svg = contents("a/figures/heatmap.svg");
  for (const char* token :
       {"a_b", "c^2", "{x}", "it's", "&lt;t>&amp;", "50% 'of' \\n", "Attention weight", "Key / Value", "Query"})
    CHECK_MESSAGE(svg.find(token) != std::string::npos, std::string(token));
  CHECK(contents("a/figures/heatmap.png").starts_with("\x89PNG"));
}

TEST_CASE("without gnuplot: said once, the figure's numbers are written, exit 0") {
  const Elsewhere e;
  const std::string path = std::getenv("PATH");
  setenv("PATH", e.folder.path.c_str(), 1);
  const Said said = surgeon_says({"masking", "--out", "a"});
  setenv("PATH", path.c_str(), 1);
  CHECK(said.exit == 0);
  CHECK(said.err.find("gnuplot is not installed") == said.err.rfind("gnuplot is not installed"));
  CHECK(said.err.find("gnuplot is not installed") != std::string::npos);
  CHECK(contents("a/figures/masks.csv").starts_with("panel,series,x,y,value,low,high\nCausal,,0,0,1,,\n"));
  CHECK_FALSE(fs::exists("a/figures/masks.svg"));
}

// A program named gnuplot that stands first in PATH while one lives.
struct OtherGnuplot {
  std::string path = std::getenv("PATH");
  explicit OtherGnuplot(const std::string& script, fs::perms perms = fs::perms::owner_all) {
    fs::create_directory("bin");
    write_bytes("bin/gnuplot", script);
    fs::permissions("bin/gnuplot", perms);
    setenv("PATH", (fs::absolute("bin").string() + ":" + path).c_str(), 1);
  }
  ~OtherGnuplot() { setenv("PATH", path.c_str(), 1); }
};

TEST_CASE("a gnuplot that hangs is stopped, with all it started; at once when there is a hurry") {
  const Elsewhere e;
  const OtherGnuplot hangs("#!/bin/sh\nsleep 1000 &\necho $! > pid\nwait\n");
  const Figure figure{.name = "f", .panels = {LineChart{}}};
  Plotter patient(std::chrono::milliseconds(300)), hurried;
  patient.start(figure, ".");
  CHECK(patient.finish() == std::vector<std::string>{"figure f: gnuplot took too long and was stopped"});
  const auto start = std::chrono::steady_clock::now();
  hurried.start(figure, ".");
  CHECK(hurried.finish([] { return true; }).size() == 1);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
  // What it had started has ended too; nobody may have asked yet how.
  const std::string stat = "/proc/" + words_of(contents("pid")).at(0) + "/stat";
  const auto lives = [&] { return fs::exists(stat) && read_bytes(stat).find(") Z") == std::string::npos; };
  for (int i = 0; i < 1000 && lives(); ++i) usleep(10'000);
  CHECK_FALSE(lives());
  for (const char* end : {".gp.tmp", ".log.tmp", ".svg.tmp", ".svg"}) CHECK_FALSE(fs::exists(std::string(".f") + end));
}

TEST_CASE("a gnuplot that cannot be started is there all the same; what one says is shown, not obeyed") {
  const Elsewhere e;
  {
    const OtherGnuplot locked("#!/bin/sh\n", fs::perms::owner_read);
    const std::string own = std::getenv("PATH");
    setenv("PATH", fs::absolute("bin").c_str(), 1);
    Plotter plotter;
    plotter.start({.name = "f", .panels = {LineChart{}}}, ".");
    setenv("PATH", own.c_str(), 1);
    CHECK_FALSE(plotter.missing());
    CHECK(plotter.finish() == std::vector<std::string>{"figure f: gnuplot could not be started: Permission denied"});
  }
  const OtherGnuplot rude("#!/bin/sh\nprintf '\\033[2Jno\\nway'; exit 1\n");
  const Said said = surgeon_says({"heatmap", "--out", "a"});
  CHECK(said.exit == 0);
  CHECK(said.err == "warning: figure heatmap: gnuplot failed: \\x1b[2Jno way\n");
  CHECK(said.out.ends_with("\n\nResults in a\n"));   // no figures
}

TEST_CASE("figures: nothing to draw, one point, and nan are drawn all the same") {
  if (std::system("gnuplot --version > /dev/null 2>&1") != 0) return;
  const Elsewhere e;
  const double nan = std::nan("");
  const std::vector<LineChart> charts = {
      {}, {.series = {{"s", {1}, {2}}}, .log_x = true, .log_y = true},
      {.series = {{"s", {0, -1}, {2, 3}}}, .log_x = true, .log_y = true},
      {.series = {{"s", {1, 2, 3}, {nan, 0, -1}}}, .references = {{0, "zero"}}, .log_y = true},
      {.series = {{"s", {1, 2, 3}, {nan, 5, 1e300}, {0, 1, 2}, {1, 6, nan}}}}};
  const Said said = surgeon_says({"small", "--out", "a"}, {small([&](Lab& lab) {
                                   for (std::size_t i = 0; i < charts.size(); ++i)
                                     lab.draw({.name = std::string("f").append(std::to_string(i)),
                                               .title = "t",
                                               .panels = {charts[i]}});
                                   Heatmap map{.values = {{nan, 1}, {0, -5}}};
                                   lab.draw({.name = "map", .panels = {map, map, map}, .columns = 2});
                                 })});
  CHECK(said.err == "");
  for (const char* name : {"f0", "f1", "f2", "f3", "f4", "map"})
    for (const char* end : {".svg", ".png", ".csv"})
      CHECK(fs::exists(fs::path("a/figures") / (std::string(name) + end)));
}

TEST_CASE("a logarithmic axis has numbers, also where it spans less than a power of ten") {
  if (std::system("gnuplot --version > /dev/null 2>&1") != 0) return;
  const Elsewhere e;
  Plotter plotter;
  plotter.start({.name = "narrow", .panels = {LineChart{.series = {{"s", {1, 2}, {3, 4}}}, .log_y = true}}}, ".");
  plotter.start({.name = "wide", .panels = {LineChart{.series = {{"s", {1, 2}, {1, 1e4}}}, .log_y = true}}}, ".");
  CHECK(plotter.finish().empty());
  CHECK(has(contents("narrow.svg"), ">3.4<"));
  CHECK(has(contents("wide.svg"), ">10³<"));
}

}
