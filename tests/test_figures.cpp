// Figures: drawn beside their data, whatever the text and the numbers.
#include <doctest/doctest.h>

#include <unistd.h>

#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <regex>
#include <set>

#include "experiments/figures.hpp"
#include "framework/errors.hpp"
#include "tests/command.hpp"

using namespace surgeon;
using namespace surgeon::tests;
namespace fs = std::filesystem;

namespace {

bool has_gnuplot() { return std::system("gnuplot --version > /dev/null 2>&1") == 0; }

// The figure drawn here, as SVG.
std::string drawn(const Figure& figure, FigureSize size = FigureSize::screen) {
  Plotter plotter({size, {FigureFormat::svg}});
  plotter.start(figure, ".");
  for (const std::string& failure : plotter.finish()) FAIL_CHECK(failure);
  return contents(figure.name + ".svg");
}

std::set<std::string> all_matches(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  std::set<std::string> found;
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it) found.insert((*it)[1]);
  return found;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t i = text.find(part); i != text.npos; i = text.find(part, i + 1)) ++n;
  return n;
}

}  // namespace

TEST_SUITE("figures") {

TEST_CASE("figures: SVG, PNG and PDF beside the data; tokens with gnuplot's special characters come as they are") {
  if (!has_gnuplot()) return;
  const Elsewhere e;
  CHECK(surgeon_says({"heatmap", "--tokens", "a_b c^2 {x} it's \"q\" <t>&", "--title", "50% 'of' \\n", "--out", "a"})
            .err == "");
  const std::string svg = contents("a/figures/heatmap.svg");
  for (const char* token :
       {"a_b", "c^2", "{x}", "it's", "&lt;t>&amp;", "50% 'of' \\n", "Attention Weight", "Key / Value", "Query"})
    CHECK_MESSAGE(svg.find(token) != std::string::npos, std::string(token));
  CHECK(contents("a/figures/heatmap.png").starts_with("\x89PNG"));
  CHECK(contents("a/figures/heatmap.pdf").starts_with("%PDF"));
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
  CHECK(contents("a/figures/masks.csv").starts_with("panel,series,x,y,value,low,high\n\"Causal Mask"));
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
  Plotter patient({}, std::chrono::milliseconds(300)), hurried;
  patient.start(figure, ".");
  CHECK(patient.finish() == std::vector<std::string>{"figure f: gnuplot took too long and was stopped"});
  const auto start = std::chrono::steady_clock::now();
  hurried.start(figure, ".");
  hurried.start({.name = "g", .panels = {LineChart{}}}, ".");
  CHECK(hurried.finish([] { return true; }) == std::vector<std::string>{"figures f, g: gnuplot was stopped"});
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
  fs::create_symlink("gone/log", ".f.log.tmp");   // as when the folder is removed meanwhile
  Plotter homeless;
  homeless.start({.name = "f", .panels = {LineChart{}}}, ".");
  CHECK_FALSE(homeless.missing());
  CHECK(homeless.finish() ==
        std::vector<std::string>{"figure f: gnuplot could not be started: No such file or directory"});
  const OtherGnuplot rude("#!/bin/sh\nprintf '\\033[2Jno\\nway'; exit 1\n");
  const Said said = surgeon_says({"heatmap", "--out", "a"});
  CHECK(said.exit == 0);
  CHECK(said.err == "warning: figure heatmap: gnuplot failed: \\x1b[2Jno way\n");
  CHECK(said.out.ends_with("\n\nResults in a\n"));   // no figures
}

TEST_CASE("figures: nothing to draw, one point, and nan are drawn all the same") {
  if (!has_gnuplot()) return;
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
    for (const char* end : {".svg", ".png", ".pdf", ".csv"})
      CHECK(fs::exists(fs::path("a/figures") / (std::string(name) + end)));
}

TEST_CASE("a logarithmic axis has numbers, also where it spans less than a power of ten") {
  if (!has_gnuplot()) return;
  const Elsewhere e;
  Plotter plotter;
  plotter.start({.name = "narrow", .panels = {LineChart{.series = {{"s", {1, 2}, {3, 4}}}, .log_y = true}}}, ".");
  plotter.start({.name = "wide", .panels = {LineChart{.series = {{"s", {1, 2}, {1, 1e4}}}, .log_y = true}}}, ".");
  CHECK(plotter.finish().empty());
  CHECK(has(contents("narrow.svg"), ">3.4<"));
  CHECK(has(contents("wide.svg"), ">10³<"));
}

TEST_CASE("figures: 1, 2 and 5 on both axes of less than a decade") {
  if (!has_gnuplot()) return;
  const Elsewhere e;
  const std::string svg = drawn({.name = "decade", .panels = {Scatter{.series = {{"s", {11, 80}, {1.1, 8}}},
                                                                      .log_x = true, .log_y = true}}});
  for (const char* tick : {">2<", ">5<", ">20<", ">50<"}) CHECK_MESSAGE(has(svg, tick), std::string(tick));
}

TEST_CASE("figures: a % and its kin come as they are, wherever the words of the user stand") {
  if (!has_gnuplot()) return;
  const Elsewhere e;
  const std::string odd = "%d_b^{x}@&~\\n'q'\"";
  const std::string svg = drawn({.name = "words",
                                 .title = odd,
                                 .panels = {Bars{.title = odd, .x_label = odd, .y_label = odd, .names = {odd},
                                                 .series = {{.name = odd, .y = {1}}}, .references = {{0.5, odd}}},
                                            Heatmap{.title = odd, .x_label = odd, .y_label = odd, .bar_label = odd,
                                                    .x_ticks = {odd}, .y_ticks = {odd}, .values = {{1}}}},
                                 .note = odd});
  CHECK(count(svg, "%d_b^{x}@&amp;~\\n'q'\"") == 14);
}

TEST_CASE("figures: bytes that are no UTF-8 and control characters leave a well-formed SVG") {
  if (!has_gnuplot()) return;
  const Elsewhere e;
  const std::string svg = drawn({.name = "bytes", .title = "a\xff" "b\x01" "c\xed\xa0\x80", .panels = {LineChart{}}});
  CHECK(has(svg, "a\uFFFDb c\uFFFD"));
}

TEST_CASE("figures: letters without a font: one warning, a replacement in PNG and PDF, the word itself in SVG") {
  if (!has_gnuplot() || std::system("fc-list > /dev/null 2>&1") != 0) return;
  const Elsewhere e;
  write_bytes("fonts.conf", "<fontconfig><dir>/usr/share/fonts/truetype/dejavu</dir><cachedir>" +
                                (e.folder.path / "cache").string() + "</cachedir></fontconfig>");
  setenv("FONTCONFIG_FILE", (e.folder.path / "fonts.conf").c_str(), 1);
  const Said cats = surgeon_says({"heatmap", "--tokens", "the 猫 sat", "--title", "猫", "--out", "a"}),
             plain = surgeon_says({"heatmap", "--tokens", "où Жук √ naïve", "--out", "b"});
  unsetenv("FONTCONFIG_FILE");
  CHECK(cats.exit == 0);
  CHECK(count(cats.err, "warning: no font has 猫") == 1);
  CHECK(has(contents("a/figures/heatmap.svg"), "猫"));
  CHECK(has(contents("a/figures/heatmap.csv"), "猫"));
  CHECK(plain.err == "");
}

TEST_CASE("figures: typeset words have subscripts, and a root; others keep their underscores") {
  if (!has_gnuplot()) return;
  const Elsewhere e;
  const std::string svg =
      drawn({.name = "t", .title = typeset("1/√d_k, 50 % {a}"), .panels = {LineChart{.title = "d_v"}}});
  CHECK(has(svg, "1/√d<"));
  CHECK(has(svg, ">k<"));
  CHECK(has(svg, ", 50 % {a}"));
  CHECK_FALSE(has(svg, "d_k"));
  CHECK(has(svg, "d_v"));
}

TEST_CASE("figures: both of two bands that overlap are seen, and nothing drawn from 0 up goes below it") {
  if (!has_gnuplot()) return;
  const Elsewhere e;
  const std::string svg = drawn({.name = "bands", .panels = {LineChart{.series = {
      {"a", {1, 2}, {0.01, 2}, {0, 1}, {1, 3}}, {"b", {1, 2}, {0.02, 1}, {0, 0}, {1, 2}}}}}});
  CHECK(count(svg, "fill-opacity = '0.2") == 2);
  CHECK(has(svg, ">0<"));
  CHECK_FALSE(has(svg, ">-"));
}

TEST_CASE("figures: a folder that is not there, or cannot be written to, is an error that names it") {
  const Elsewhere e;
  Plotter plotter;
  CHECK_THROWS_WITH_AS(plotter.start({.name = "f"}, "not/there"), doctest::Contains("not/there"), IoError);
  CHECK_THROWS_WITH_AS(plotter.start({.name = "f"}, "/proc"), doctest::Contains("/proc"), IoError);
  CHECK(plotter.finish().empty());
}

TEST_CASE("figures: sixteen lines look different from one another") {
  if (!has_gnuplot()) return;
  const Elsewhere e;
  LineChart chart;
  for (int i = 0; i < 16; ++i) chart.series.push_back({"line " + std::to_string(i), {0, 1}, {1.0 * i, 2.0 * i}});
  const std::string svg = drawn({.name = "many", .panels = {chart}});
  std::vector<std::array<int, 3>> colours;
  for (const std::string& text : all_matches(svg, "stroke='rgb\\(([^)]*)\\)'"))
    if (std::array<int, 3> c; std::sscanf(text.c_str(), "%d, %d, %d", &c[0], &c[1], &c[2]) == 3)
      if (c[0] != c[1] || c[0] == 119) colours.push_back(c);   // the frame and its grid are other greys
  CHECK(colours.size() == 16);
  for (const auto& a : colours)
    for (const auto& b : colours)
      if (a != b) CHECK(std::hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]) > 45);
}

TEST_CASE("figures: a slide is 16:9, a column 3.4 inches wide with letters of 7 points or more") {
  if (!has_gnuplot()) return;
  const Elsewhere e;
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"heads"}, {"masking"}, {"heatmap"}, {"scaling", "--seeds", "20"}})
    for (const char* size : {"slide", "column"}) {
      const std::string out = words[0] + size;
      std::vector<std::string> all = words;
      all.insert(all.end(), {"--figure-size", size, "--figure-formats", "svg,svg", "--out", out});
      REQUIRE(surgeon_says(all).exit == 0);
      for (const auto& file : fs::directory_iterator(out + "/figures")) {
        CHECK(file.path().extension() != ".png");
        if (file.path().extension() != ".svg") continue;
        CAPTURE(file.path().string());
        const std::string svg = contents(file.path());
        const bool slide = size == std::string("slide");
        CHECK(has(svg, slide ? "width=\"1280\" height=\"720\"" : "width=\"326\""));
        for (const std::string& pixels : all_matches(svg, "font-size=\"([0-9.]+)\""))
          CHECK(std::stod(pixels) >= (slide ? 16 : 7) * 96 / 72.0 * 0.8);   // a subscript is 0.8 of its word
        for (const std::string& pixels : all_matches(svg, "<g [^>]*font-size=\"([0-9.]+)\""))
          CHECK(std::stod(pixels) >= (slide ? 14 : 7) * 96 / 72.0);
      }
    }
}

TEST_CASE("figures: bars, histogram and scatter leave their numbers and their pictures") {
  if (!has_gnuplot()) return;
  const Elsewhere e;
  const Bars bars{.title = "b", .names = {"x,y", "z"},
                  .series = {{.name = "s", .y = {1, -2}, .low = {0, -3}, .high = {2, -1}}}};
  const Histogram histogram{.title = "h", .samples = {{"u", {1, 10, 100, 0}}, {"v", {1, 1}}}, .log_x = true, .bins = 2};
  const Scatter scatter{.title = "p", .series = {{"t", {1, 2}, {3, 4}}}};
  const Figure figure{.name = "kinds", .panels = {bars, histogram, scatter}};
  const std::string data = figure_data(figure);
  CHECK(has(data, "b,s,\"x,y\",,1,0,2\n"));
  CHECK(has(data, "h,u,3.16"));
  CHECK(has(data, ",,0.25,1,10\n"));      // 0 counts, but is not shown
  CHECK(has(data, ",,0.5,10,100\n"));
  CHECK(has(data, ",,1,1,10\n"));
  CHECK(has(data, "p,t,1,,3,,\n"));
  CHECK(has(drawn(figure), ">x,y<"));
  CHECK(figure_data({.panels = {LineChart{.references = {{2, "two"}}}}}) ==
        "panel,series,x,y,value,low,high\n,two,,,2,,\n");
}

TEST_CASE("figures: a diverging scale has 0 in its middle, other scales the ends of their data") {
  if (!has_gnuplot()) return;
  const Elsewhere e;
  const auto colours = [](const Heatmap& map) {
    const std::string svg = drawn({.name = "m", .panels = {map}});
    return all_matches(svg, "fill *= *'(rgb\\([^)]*\\))' points");
  };
  const Heatmap diverging{.values = {{-1, 0, 4}}, .palette = Palette::diverging, .decimals = -1};
  CHECK(colours(diverging).contains("rgb(255, 255, 255)"));
  CHECK(colours(diverging).contains("rgb(103,   0,  31)"));
  const Heatmap plain{.values = {{3, 4}}, .decimals = -1};
  CHECK(colours(plain) == std::set<std::string>{"rgb( 68,   1,  84)", "rgb(253, 231,  37)"});
  CHECK(colours({.values = {{0.5, 0.5}}, .decimals = -1}).size() == 1);
  CHECK_FALSE(colours({.values = {{0.3, 0.4}}, .low = 0, .high = 1, .decimals = -1}).contains("rgb(253, 231,  37)"));
}

TEST_CASE("figures: the notebook's words: titles, axes, legends, colour bars") {
  if (!has_gnuplot()) return;
  const Elsewhere e;
  REQUIRE(surgeon_says({"scaling", "--seeds", "5", "--out", "s"}).exit == 0);
  REQUIRE(surgeon_says({"masking", "--out", "m"}).exit == 0);
  REQUIRE(surgeon_says({"heatmap", "--out", "h"}).exit == 0);
  REQUIRE(surgeon_says({"heatmap", "--range", "0:1", "--out", "r"}).exit == 0);
  const std::string saturation = contents("s/figures/saturation.svg"), masks = contents("m/figures/masks.svg"),
                    weights = contents("m/figures/weights.svg");
  for (const char* words : {"Softmax Saturation vs d<", "Attention Entropy vs d<", ">With Scaling<",
                            ">Without Scaling<", ">Saturation (1.0)<", "\u200B (Key Dimension)<", ">Max Attention Weight<", ">Entropy (nats)<"})
    CHECK_MESSAGE(has(saturation, words), std::string(words));
  for (const char* words : {"Causal Mask (Correct)", "Can see past and present", "Reverse Mask (Wrong!)",
                            "Can see future!", "No Mask (Bidirectional)", "Can see everything", "Key Position", "Query Position",
                            "1 = can attend, 0 = cannot attend (masked out)"})
    CHECK_MESSAGE(has(masks, words), std::string(words));
  CHECK(has(weights, "Attention Without Mask (Bidirectional)"));
  CHECK(has(weights, "Attention With Causal Mask (Autoregressive)"));
  CHECK(count(weights, "Attention Weight<") == 2);
  const std::string own = contents("h/figures/heatmap.svg"), fixed = contents("r/figures/heatmap.svg");
  CHECK(has(own, ">Attention Weights<"));
  CHECK(has(own, "rgb(253, 231,  37)"));   // the largest weight is as yellow as can be
  CHECK(fixed != own);
  for (const char* range : {"1", "1:0", "a:b", "0:", "0:1:2"})
    CHECK_MESSAGE(surgeon_says({"heatmap", "--range", range}).exit == 2, std::string(range));
}

}
