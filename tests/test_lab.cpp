// The command from outside: options, exit codes, what it prints, and what it leaves on the disk.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "experiments/figures.hpp"
#include "framework/machine.hpp"
#include "framework/ops.hpp"
#include "tests/command.hpp"

using namespace surgeon;
using namespace surgeon::tests;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

struct Numbers { std::vector<std::int64_t> whole = {1}; std::vector<double> real = {1}; std::string name = "x"; };

const bool can_draw = std::system("gnuplot --version > /dev/null 2>&1") == 0;

Experiment echo(Numbers& numbers) {
  return {"echo", "A question?", "Nothing is varied.", {"surgeon echo"}, [&numbers](Options& o) {
            o.add("--whole", numbers.whole, "whole numbers", {.low = 0, .quick = "7"});
            o.add("--real", numbers.real, "numbers");
            o.add("--name", numbers.name, "a name", {.choices = {"x", "yellow"}});
            return std::function<void(Lab&)>([](Lab&) {});
          }};
}

}  // namespace

TEST_SUITE("lab") {

TEST_CASE("help, list and version: exit 0 and 80 columns; -h is --help everywhere") {
  const Elsewhere e;
  const Said help = surgeon_says({"--help"});
  CHECK(has(help.out, "surgeon <experiment> [options]"));
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"-h"}, {"help"}, {"all", "-h"}, {"list", "-h"}, {"help", "all"}}) {
    const Said said = surgeon_says(words);
    CHECK(said.exit == 0);
    CHECK(said.out == help.out);
  }
  const Said version = surgeon_says({"--version"});
  CHECK(version.exit == 0);
  CHECK(version.out.starts_with("surgeon "));
  for (const std::string& text : {help.out, version.out, surgeon_says({"list"}).out}) check_width(text);
  CHECK(json::parse(surgeon_says({"list", "--json"}).out)["experiments"].size() == all_experiments().size());
  CHECK(fs::is_empty(e.folder.path));
}

TEST_CASE("wrong usage: exit 2, one clear line on stderr, nothing on stdout, nothing on the disk") {
  struct Wrong { std::vector<std::string> words; std::string says; };
  const std::vector<Wrong> table = {
      {{}, "no experiment given"},
      {{"scalng"}, "did you mean scaling?"},
      {{"xyzzy"}, "unknown experiment \"xyzzy\""},
      {{"--seeds", "3"}, "the experiment comes first"},
      {{"scaling", "--d-q", "16"}, "unknown option --d-q; did you mean --d-k?"},
      {{"scaling", "--d-k", "0"}, "--d-k must be at least 1, not 0"},
      {{"scaling", "--d-k", "abc"}, "--d-k: \"abc\" is not a whole number"},
      {{"scaling", "--d-k", "16,"}, "--d-k: \"\" is not a whole number"},
      {{"scaling", "--d-k", "1.5"}, "not a whole number"},
      {{"scaling", "--d-k", "99999999999999999999"}, "is out of range"},
      {{"scaling", "--d-k", "16:4:x2"}, "never reaches its end"},
      {{"scaling", "--d-k", "16:64:x1"}, "never reaches its end"},
      {{"scaling", "--d-k", "1:9:2:3"}, "is not a range"},
      {{"scaling", "--d-k", "16:64:x"}, "\"16:64:x\" is not a range: no factor follows the x"},
      {{"scaling", "--d-k", "16::2"}, "\"16::2\" is not a range: a part is empty"},
      {{"train", "copy", "--lr", "1e-400"}, "--lr: 1e-400 is so small that it would be read as 0"},
      {{"train", "copy", "--lr", "1e400"}, "--lr: 1e400 is out of range"},
      {{"attention", "--seeds", "3"}, "unknown option --seeds"},
      {{"scaling", "--d-k"}, "--d-k needs a value"},
      {{"scaling", "--seeds", "-1"}, "--seeds must be at least 1, not -1"},
      {{"scaling", "--seeds=0"}, "--seeds must be at least 1, not 0"},
      {{"scaling", "16"}, "unexpected \"16\""},
      {{"scaling", "--dtype", "float16"},
       "--dtype must be one of float32, float64, not \"float16\"; did you mean float32?"},
      {{"scaling", "--d-k", "16777216", "--tokens", "4096"}, "--d-k times --tokens must be at most 2^27"},
      {{"scaling", "--threads", "0"}, "--threads must be at least 1, not 0"},
      {{"scaling", "--config", "missing.toml"}, "--config: missing.toml: cannot be read: No such file or directory"},
      {{"scaling", "--preset", "slow"}, "--preset must be one of quick, full, not \"slow\""},
      {{"heads", "--heads", "7"}, "--heads must divide --d-model"},
      {{"heatmap", "--tokens", "  "}, "--tokens has no words"},
      {{"help", "scalng"}, "did you mean scaling?"},
      {{"all", "--d-k", "16"}, "unknown option --d-k"},
      {{"list", "--long"}, "unknown option --long"}};
  const Elsewhere e;
  for (const Wrong& wrong : table) {
    CAPTURE(wrong.says);
    const Said said = surgeon_says(wrong.words);
    CHECK(said.exit == 2);
    CHECK(said.out == "");
    CHECK(lines(said.err) == 1);
    CHECK_MESSAGE(said.err.find(wrong.says) != std::string::npos, said.err);
    CHECK(fs::is_empty(e.folder.path));
  }
}

TEST_CASE("lists and ranges: commas, products, sums with both ends") {
  const Elsewhere e;
  Numbers n;
  const std::vector<Experiment> list = {echo(n)};
  const auto whole = [&](const std::string& text) {
    REQUIRE(surgeon_says({"echo", "--whole", text, "--quiet"}, list).exit == 0);
    return n.whole;
  };
  CHECK(whole("16:4096:x4") == std::vector<std::int64_t>{16, 64, 256, 1024, 4096});
  CHECK(whole("1:5") == std::vector<std::int64_t>{1, 2, 3, 4, 5});
  CHECK(whole("9:1:-4") == std::vector<std::int64_t>{9, 5, 1});
  CHECK(whole("3, 1:2,10") == std::vector<std::int64_t>{3, 1, 2, 10});
  REQUIRE(surgeon_says({"echo", "--real", "0.1:0.5:0.1", "--quiet"}, list).exit == 0);
  CHECK(n.real == std::vector<double>{0.1, 0.2, 0.3, 0.4, 0.5});
  REQUIRE(surgeon_says({"echo", "--real=-1.5,1e3", "--quiet"}, list).exit == 0);
  CHECK(n.real == std::vector<double>{-1.5, 1000});
}

TEST_CASE("precedence: command line over configuration file over quick preset over default; its errors name the file") {
  const Elsewhere e;
  Numbers n;
  const std::vector<Experiment> list = {echo(n)};
  const auto run = [&](std::vector<std::string> words) {
    n = {};
    words.insert(words.begin(), "echo");
    words.push_back("--quiet");
    const Said said = surgeon_says(words, list);
    return said.exit == 0 ? n.whole.at(0) : -1;
  };
  std::ofstream("c.toml") << "# a comment\nwhole = [5, 6]\nname = \"yellow\"\n[echo]\nreal = 2.5\n";
  CHECK(run({}) == 1);
  CHECK(run({"--preset", "quick"}) == 7);
  CHECK(run({"--preset", "quick", "--config", "c.toml"}) == 5);
  CHECK(n.whole == std::vector<std::int64_t>{5, 6});
  CHECK(n.real == std::vector<double>{2.5});
  CHECK(n.name == "yellow");
  CHECK(run({"--config", "c.toml", "--whole", "9"}) == 9);
  std::ofstream("p.toml") << "preset = \"quick\"\n";
  CHECK(run({"--config", "p.toml"}) == 7);
  for (const auto& [text, says] : {std::pair{"[echo]\nwhol = 1\n", "unknown option whol; did you mean --whole?"},
                                   std::pair{"[ecko]\nwhole = 1\n", "unknown section [ecko]; did you mean echo?"},
                                   std::pair{"whole = \"x\"\n", "--whole: \"x\" is not a whole number"}}) {
    std::ofstream("bad.toml") << text;
    const Said said = surgeon_says({"echo", "--config", "bad.toml"}, list);
    CHECK(said.exit == 2);
    CHECK_MESSAGE(said.err.find(says) != std::string::npos, said.err);
  }
}

// The example of lab.hpp, with a figure.
TEST_CASE("a program of one's own: its experiments, its name in help and errors, a run folder, figures") {
  const Elsewhere e;
  struct Knobs { std::int64_t draws = 1000; };
  const auto prepare = knobs<Knobs>(
      [](Options& o, Knobs& k) { o.add("--draws", k.draws, "numbers to draw", {.low = 1}); },
      [](Lab& lab, const Knobs& k) {
        Rng rng = lab.rng();
        const double found = mean(randn({k.draws}, rng)).item();
        lab.row({{"draws", k.draws}, {"mean", found}});
        lab.draw({.name = "mean", .panels = {LineChart{.series = {{.x = {double(k.draws)}, .y = {found}}}}}});
        lab.verdict("The mean of " + std::to_string(k.draws) + " draws is " + number(found) + ".");
      });
  const Experiment draws{"draws", "How far from 0 is a mean?", "Varied: the number of draws. Measured: the mean.",
                         {"mine draws --draws 100"}, prepare};
  const auto says = [&](const std::vector<std::string>& words) {
    std::ostringstream out, err;
    const int exit = surgeon_command({draws}, words, out, err, "mine");
    return Said{exit, out.str(), err.str()};
  };
  CHECK(has(says({"draws", "--help"}).out, "Usage: mine draws [options]"));
  CHECK(says({"draws", "--draws", "0"}).err == "mine draws: --draws must be at least 1, not 0\n");
  CHECK(says({"draw"}).err == "mine: unknown experiment \"draw\"; did you mean draws?; `mine list` shows them all\n");
  const Said said = says({"draws", "--draws", "100", "--out", "a"});
  CHECK(said.exit == 0);
  CHECK(said.out.ends_with(can_draw ? "Figures in a/figures: mean\nResults in a\n" : "Results in a\n"));
  CHECK(json::parse(contents("a/config.json"))["typed"] == "mine draws --draws 100 --out a");
  CHECK(contents("a/figures/mean.csv").starts_with("panel,series,x,y,value,low,high\n,,100,,"));
}

TEST_CASE("before_check: sets options from others, before what require() asks and before anything is written") {
  const Elsewhere e;
  struct Sizes { std::int64_t rows = 0, columns = 2; };
  Sizes sizes;
  const Experiment square{"square", "A question?", "Nothing is varied.", {"surgeon square"}, [&](Options& o) {
    o.add("--rows", sizes.rows, "rows; 0: as many as columns");
    o.add("--columns", sizes.columns, "columns");
    o.require([&] { return sizes.rows == sizes.columns; }, "it must be square");
    o.before_check([&] { if (sizes.rows == 0) sizes.rows = sizes.columns; });
    o.before_check([&] { if (sizes.rows > 9) throw UsageError("--rows: too many"); });
    return std::function<void(Lab&)>([](Lab&) {});
  }};
  CHECK(surgeon_says({"square", "--columns", "5", "--out", "a"}, {square}).exit == 0);
  CHECK(json::parse(contents("a/config.json"))["options"]["rows"] == 5);
  CHECK(surgeon_says({"square", "--rows", "3", "--out", "b"}, {square}).err == "surgeon square: it must be square\n");
  CHECK(surgeon_says({"square", "--rows", "10", "--out", "b"}, {square}).err == "surgeon square: --rows: too many\n");
  CHECK_FALSE(fs::exists("b"));
}

TEST_CASE("errors: the user's words are shortened, and no control character reaches the terminal") {
  const Elsewhere e;
  const Said said = surgeon_says({"\x1b[31m" + std::string(1000, 'x')});
  CHECK(said.err.starts_with("surgeon: unknown experiment \"\\x1b[31mxxx"));
  CHECK(said.err.size() < 200);
  CHECK(has(surgeon_says({"scaling", "--dtype", std::string(1000, 'y')}).err, "yyy...\""));
}

TEST_CASE("--out: a folder in use is refused without --force, one that cannot be made is said in one line") {
  const Elsewhere e;
  fs::create_directory("used");
  std::ofstream("used/mine.txt") << "mine";
  const Said refused = surgeon_says({"attention", "--out", "used"});
  CHECK(refused.exit == 2);
  CHECK(refused.err.find("used is not empty; add --force") != std::string::npos);
  CHECK(fs::exists("used/mine.txt"));
  CHECK_FALSE(fs::exists("used/meta.json"));
  CHECK(surgeon_says({"attention", "--out", "used", "--force"}).exit == 0);
  CHECK(contents("used/mine.txt") == "mine");

  std::ofstream("file") << "";
  for (const char* out : {"/proc/surgeon/a/b", "file/below", "file"}) {
    CAPTURE(out);
    const Said said = surgeon_says({"attention", "--out", out});
    CHECK(said.exit == 1);
    CHECK(lines(said.err) == 1);
    CHECK(said.err.find(std::string("--out: cannot write to ") + out) != std::string::npos);
    CHECK(said.out == "");
  }
}

TEST_CASE("a run folder without --out: dated, unique, runs/latest points at the newest, no temporary file stays") {
  const Elsewhere e;
  CHECK(surgeon_says({"attention"}).exit == 0);
  CHECK(surgeon_says({"heatmap"}).exit == 0);
  CHECK(fs::read_symlink("runs/latest").string().ends_with("_heatmap"));
  std::size_t folders = 0;
  for (const auto& entry : fs::recursive_directory_iterator("runs")) {
    folders += entry.is_directory() && !entry.is_symlink() && entry.path().parent_path() == "runs";
    CHECK_MESSAGE(!entry.path().filename().string().starts_with("."), entry.path().string());
  }
  CHECK(folders == 2);
  const json config = json::parse(contents("runs/latest/config.json"));
  CHECK(config["typed"] == "surgeon heatmap");
  CHECK(config["options"]["tokens"] == "The cat sat on mat");
}

TEST_CASE("output: the last line names the folder; --quiet prints nothing; colour only when asked for") {
  const Elsewhere e;
  const Said plain = surgeon_says({"attention", "--out", "a"});
  CHECK(plain.out.ends_with("Results in a\n"));
  const std::string last = can_draw ? "Figures in h/figures: heatmap\nResults in h\n" : "Results in h\n";
  CHECK(surgeon_says({"heatmap", "--out", "h"}).out.ends_with(last));
  CHECK(surgeon_says({"heatmap", "--out=-dash"}).err == "");   // a folder, not an option of gnuplot's
  CHECK(fs::exists("-dash/figures/heatmap.svg") == can_draw);
  CHECK(plain.out.find('\x1b') == std::string::npos);
  CHECK(plain.err == "");   // no progress without a terminal
  CHECK(surgeon_says({"attention", "--out", "b", "--quiet"}).out == "");
  CHECK(surgeon_says({"attention", "--out", "c", "--color", "always"}).out.find('\x1b') != std::string::npos);
  check_width(plain.out);
}

TEST_CASE("failure: a false check and an exception exit 1, and the folder says so") {
  const Elsewhere e;
  const Said check =
      surgeon_says({"small", "--out", "check"}, {small([](Lab& lab) { lab.check(1 > 2, "one exceeds two"); })});
  CHECK(check.exit == 1);
  CHECK(check.err.find("FAILED: one exceeds two") != std::string::npos);
  CHECK(json::parse(contents("check/meta.json"))["status"] == "failed");
  const Said thrown = surgeon_says({"small", "--out", "thrown"}, {small([](Lab& lab) {
                                     lab.row({{"a", 1.0}});
                                     throw std::runtime_error("the disk ate it");
                                   })});
  CHECK(thrown.exit == 1);
  CHECK(thrown.err == "surgeon small: the disk ate it\n");
  CHECK(json::parse(contents("thrown/summary.json"))["rows"].size() == 1);
  const Said usage =
      surgeon_says({"small", "--out", "usage"}, {small([](Lab&) { throw UsageError("that makes no sense"); })});
  CHECK(usage.exit == 2);
  CHECK_FALSE(fs::exists("usage"));
}

TEST_CASE("for_each: every index once, the first exception comes out, kernels are serial meanwhile") {
  const Elsewhere e;
  std::vector<int> hits(1000, 0);
  int seen = 0;
  const Said said = surgeon_says({"small", "--threads", "4"}, {small([&](Lab& lab) {
                                   lab.for_each(1000, "work", [&](std::int64_t i) {
                                     ++hits[std::size_t(i)];
                                     if (i == 0) seen = threads();
                                   });
                                   lab.for_each(9, "work", [](std::int64_t i) {
                                     if (i == 5) throw std::runtime_error("five");
                                   });
                                 })});
  CHECK(std::count(hits.begin(), hits.end(), 1) == 1000);
  CHECK(seen == 1);
  CHECK(said.err == "surgeon small: five\n");
}

TEST_CASE("rows: columns may differ, nan is empty in CSV and null in JSON, text is quoted where it must be") {
  const Elsewhere e;
  const Said said = surgeon_says({"small", "--out", "a", "--json"}, {small([](Lab& lab) {
                                   lab.row({{"a", std::int64_t{1}}, {"b", std::string("x, \"y\"")}});
                                   lab.row({{"c", std::nan("")}, {"a", 0.1}});
                                 })});
  CHECK(contents("a/metrics.csv") == "a,b,c\n1,\"x, \"\"y\"\"\",\n0.1,,\n");
  CHECK(contents("a/metrics.jsonl") == "{\"a\":1,\"b\":\"x, \\\"y\\\"\"}\n{\"c\":null,\"a\":0.1}\n");
  CHECK(json::parse(said.out)["rows"][1]["c"].is_null());
}

TEST_CASE("the same seed gives byte-equal metrics.csv, for any number of threads; another seed does not") {
  const Elsewhere e;
  const int threads_before = threads();
  const std::vector<std::string> words = {"scaling", "--d-k", "8,32", "--seeds", "20", "--quiet"};
  const auto csv = [&](std::vector<std::string> more, const std::string& out) {
    more.insert(more.begin(), words.begin(), words.end());
    more.insert(more.end(), {"--out", out});
    REQUIRE(surgeon_says(more).exit == 0);
    return contents(fs::path(out) / "metrics.csv");
  };
  const std::string one = csv({"--threads", "1"}, "one");
  CHECK(one == csv({"--threads", "1"}, "again"));
  CHECK(one == csv({"--threads", "3"}, "three"));
  CHECK(one != csv({"--seed", "43"}, "other"));
  CHECK(threads() == threads_before);
}

TEST_CASE("what is typed need not be UTF-8: the run and its JSON survive it") {
  const Elsewhere e;
  const Said said = surgeon_says({"heatmap", "--tokens", "s\xc3\xbc\xc3\x9f \xff\xfe", "--out", "a", "--json"});
  CHECK(said.exit == 0);
  CHECK(json::parse(said.out)["rows"][0]["query"] == "s\xc3\xbc\xc3\x9f");
  for (const char* name : {"a/config.json", "a/meta.json"}) CHECK(json::parse(contents(name)).is_object());
}

TEST_CASE("statistics: NumPy's percentiles, standard error, geometric mean") {
  const Statistics s = statistics(std::vector<double>{4, 1, 3, 2});
  CHECK(s.n == 4);
  CHECK(s.mean == 2.5);
  CHECK(s.median == 2.5);
  CHECK(s.se == doctest::Approx(std::sqrt(5.0 / 3 / 4)));
  CHECK(s.geomean == doctest::Approx(std::pow(24.0, 0.25)));
  CHECK(s.p05 == doctest::Approx(1.15));
  CHECK(s.p95 == doctest::Approx(3.85));
  CHECK(std::isnan(statistics(std::vector<double>{1}).se));
  CHECK(statistics(std::vector<double>{0, 1}).geomean == 0);
  CHECK(std::isnan(statistics(std::vector<double>{-1, 1}).geomean));
  CHECK(std::isnan(statistics(std::vector<double>{1, std::nan("")}).mean));
}

TEST_CASE("numbers for the reader: as many digits as they deserve") {
  CHECK(number(0.012345) == "0.0123");
  CHECK(number(4.1e-9) == "4.1e-09");
  CHECK(number(0) == "0");
  CHECK(number(std::nan("")) == "nan");
  CHECK(with_error(0.9123, 0.0031) == "0.912(3)");
  CHECK(with_error(1023.4, 5.2) == "1023(5)");
  CHECK(with_error(4.12e-9, 2e-10) == "4.1(2)e-09");
  CHECK(with_error(0.5, 0.0096) == "0.50(1)");
  CHECK(with_error(0.5, 0) == "0.5000");
  CHECK(fixed(-0.001, 2) == "0.00");
}

TEST_CASE("verdicts: the numbers are bold on a terminal, and only there") {
  const Elsewhere e;
  const auto said = [](const char* color) {
    return surgeon_says({"small", "--color", color, "--force", "--out", "a"}, {small([](Lab& lab) {
                          lab.verdict("From 0.296 to 1.0e-05: 16387(101), -2 of 47 % in layer2 of d_k.");
                        })}).out;
  };
  const auto bold = [](const std::string& number) { return "\x1b[1m" + number + "\x1b[0m"; };
  CHECK(has(said("always"), "From " + bold("0.296") + " to " + bold("1.0e-05") + ": " + bold("16387(101)") + ", " +
                                bold("-2") + " of " + bold("47 %") + " in layer2 of d_k."));
  CHECK_FALSE(has(said("never"), "\x1b"));
}

TEST_CASE("text of several lines does not end in a single word; parts of a wide table are about as wide") {
  const Elsewhere e;
  const std::string words = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen";
  Table table{"", {"name"}, {{"first"}}};
  for (int i = 0; i < 9; ++i) {
    table.header.push_back("column " + std::to_string(i));
    table.rows[0].push_back("1");
  }
  const std::string out = surgeon_says({"small", "--out", "a"}, {small([&](Lab& lab) {
                                          lab.say(words + " fifteen");
                                          lab.show(table);
                                        })}).out;
  CHECK(has(out, "\nfourteen fifteen\n"));
  CHECK(has(out, "column 4\n"));   // 5 and 4 columns, not 7 and 2
  check_width(out);
}

}
