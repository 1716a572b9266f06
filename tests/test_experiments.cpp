// The `surgeon` command from outside: exit codes, what it prints, and what it leaves on the disk.
#include <doctest/doctest.h>

#include <unistd.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "experiments/figures.hpp"
#include "experiments/list.hpp"
#include "framework/diagnostics.hpp"
#include "framework/machine.hpp"
#include "layers/layers.hpp"

using namespace surgeon;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// A folder of its own to run in, gone at the end.
struct Elsewhere {
  fs::path before = fs::current_path(), here;
  Elsewhere() {
    std::string name = (fs::temp_directory_path() / "surgeon_XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
    here = name;
    fs::current_path(here);
  }
  ~Elsewhere() {
    fs::current_path(before);
    fs::remove_all(here);
  }
};

struct Said { int exit; std::string out, err; };

Said surgeon_says(const std::vector<std::string>& words, const std::vector<Experiment>& list = all_experiments()) {
  std::ostringstream out, err;
  const int exit = surgeon_command(list, words, out, err);
  return {exit, out.str(), err.str()};
}

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE_MESSAGE(file.good(), path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

std::size_t lines(const std::string& text) { return std::size_t(std::count(text.begin(), text.end(), '\n')); }

// Small experiments that do what the case needs.
struct Nothing {};
struct Numbers { std::vector<std::int64_t> whole = {1}; std::vector<double> real = {1}; std::string name = "x"; };

Experiment small(std::function<void(Lab&)> body) {
  return {"small", "A question?", "Nothing is varied.", {"surgeon small"},
          [body](Options&) { return std::function<void(Lab&)>(body); }};
}

Experiment echo(Numbers& numbers) {
  return {"echo", "A question?", "Nothing is varied.", {"surgeon echo"}, [&numbers](Options& o) {
            o.add("--whole", numbers.whole, "whole numbers", {.low = 0, .quick = "7"});
            o.add("--real", numbers.real, "numbers");
            o.add("--name", numbers.name, "a name", {.choices = {"x", "yellow"}});
            return std::function<void(Lab&)>([](Lab&) {});
          }};
}

}  // namespace

TEST_SUITE("experiments") {

TEST_CASE("every experiment runs small, exits 0, and prints one JSON object that is also its summary.json") {
  const Elsewhere e;
  const std::vector<std::vector<std::string>> runs = {
      {"attention"}, {"heatmap", "--tokens", "a b c"}, {"scaling", "--d-k", "4,8", "--seeds", "3"}, {"masking"},
      {"heads", "--tokens", "3"}, {"reflect", "--d-k", "16", "--seeds", "2"}};
  for (std::vector<std::string> words : runs) {
    CAPTURE(words[0]);
    words.insert(words.end(), {"--json", "--out", words[0]});
    const Said said = surgeon_says(words);
    CHECK(said.exit == 0);
    CHECK(said.err == "");
    const json object = json::parse(said.out);
    CHECK(object["experiment"] == words[0]);
    CHECK(object["config"]["seed"] == 42);
    CHECK(object["rows"].size() > 0);
    CHECK(contents(fs::path(words[0]) / "summary.json") == said.out);
    CHECK(json::parse(contents(fs::path(words[0]) / "meta.json"))["status"] == "done");
    CHECK(lines(contents(fs::path(words[0]) / "metrics.jsonl")) == object["rows"].size());
    CHECK(lines(contents(fs::path(words[0]) / "metrics.csv")) == object["rows"].size() + 1);
  }
}

TEST_CASE("scaling --json: 16 metrics for each d_k and scale, with all their statistics") {
  const Elsewhere e;
  const json object = json::parse(surgeon_says({"scaling", "--d-k", "16,64", "--seeds", "50", "--json"}).out);
  for (int d_k : {16, 64})
    for (bool scaled : {false, true})
      for (const char* metric : {"max_weight", "row_max", "entropy", "entropy_seed", "grad_q", "grad_k", "grad_q_unit",
                                 "grad_k_unit", "grad_scores_unit", "jacobian", "jacobian_median", "jacobian_log10",
                                 "dead_1e-3", "dead_1e-6", "zero_rows", "score_variance"}) {
        CAPTURE(metric);
        int found = 0;
        for (const json& row : object["rows"])
          if (row["d_k"] == d_k && row["scaled"] == scaled && row["metric"] == metric) {
            ++found;
            CHECK(row["n"] == 50);
            for (const char* key : {"mean", "se", "median", "geomean", "p05", "p95"}) CHECK(row.contains(key));
          }
        CHECK(found == 1);
      }
}

TEST_CASE("scaling: its numbers are those of the definitions, for a draw computed in the open") {
  const Elsewhere e;
  const json object = json::parse(surgeon_says({"scaling", "--d-k", "8", "--tokens", "5", "--seeds", "1", "--seed", "9",
                                                "--dtype", "float64", "--json"}).out);
  Rng rng(9, std::uint64_t(8) << 32);
  const Shape shape = {1, 5, 8};
  const Tensor Q = randn(shape, rng, Dtype::float64), K = randn(shape, rng, Dtype::float64);
  const Tensor V = randn(shape, rng, Dtype::float64), G = randn(shape, rng, Dtype::float64);
  const Tensor scores = matmul(Q, K, {.transpose_b = true}) / std::sqrt(8.0), weights = softmax(scores);
  const auto [dQ, dS] = grad(sum(matmul(weights, V) * G), {Q, scores});
  const auto mean_of = [&](const char* metric) {
    for (const json& row : object["rows"])
      if (row["metric"] == metric && row["scaled"] == true) return row["mean"].get<double>();
    return std::nan("");
  };
  CHECK(mean_of("grad_q") == doctest::Approx(sqrt(sum(dQ * dQ)).item()).epsilon(1e-12));
  CHECK(mean_of("grad_scores_unit") == doctest::Approx(sqrt(sum(dS * dS)).item() / std::sqrt(8.0)).epsilon(1e-12));
  CHECK(mean_of("entropy") == doctest::Approx(-sum(weights * log(weights)).item() / 5).epsilon(1e-12));
  CHECK(mean_of("max_weight") == doctest::Approx(max(weights).item()).epsilon(1e-12));
  CHECK(mean_of("score_variance") == doctest::Approx(var(scores).item()).epsilon(1e-12));
  const Tensor J = reshape(weights, {5, 5, 1}) * reshape(eye(5, Dtype::float64), {1, 5, 5}) -
                   reshape(weights, {5, 5, 1}) * reshape(weights, {5, 1, 5});
  CHECK(mean_of("jacobian") == doctest::Approx(mean(sqrt(sum(J * J, {-1, -2}))).item()).epsilon(1e-12));
}

TEST_CASE("scaling: a draw does not depend on how many there are, nor on the other d_k") {
  const Elsewhere e;
  const auto first_row = [](const std::vector<std::string>& words) {
    const json object = json::parse(surgeon_says(words).out);
    for (const json& row : object["rows"])
      if (row["d_k"] == 16 && row["metric"] == "grad_q") return row["p05"].get<double>();
    return 0.0;
  };
  CHECK(first_row({"scaling", "--d-k", "16", "--seeds", "1", "--json"}) ==
        first_row({"scaling", "--d-k", "4,16", "--seeds", "1", "--json"}));
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

TEST_CASE("wrong usage: exit 2, one clear line on stderr, nothing on stdout, nothing on the disk") {
  struct Wrong { std::vector<std::string> words; std::string says; };
  const std::vector<Wrong> table = {
      {{}, "which experiment?"},
      {{"scalng"}, "did you mean scaling?"},
      {{"xyzzy"}, "unknown experiment \"xyzzy\""},
      {{"--seeds", "3"}, "the experiment comes first"},
      {{"scaling", "--d-q", "16"}, "unknown option --d-q; did you mean --d-k?"},
      {{"scaling", "--d-k", "0"}, "--d-k: 0 is below 1"},
      {{"scaling", "--d-k", "abc"}, "--d-k: \"abc\" is not a whole number"},
      {{"scaling", "--d-k", "16,"}, "--d-k: \"\" is not a whole number"},
      {{"scaling", "--d-k", "1.5"}, "not a whole number"},
      {{"scaling", "--d-k", "99999999999999999999"}, "is too large"},
      {{"scaling", "--d-k", "16:4:x2"}, "never reaches its end"},
      {{"scaling", "--d-k", "16:64:x1"}, "never reaches its end"},
      {{"scaling", "--d-k", "1:9:2:3"}, "a range is"},
      {{"scaling", "--d-k"}, "--d-k needs a value"},
      {{"scaling", "--seeds", "-1"}, "--seeds: -1 is below 1"},
      {{"scaling", "--seeds=0"}, "--seeds: 0 is below 1"},
      {{"scaling", "16"}, "unexpected \"16\""},
      {{"scaling", "--dtype", "float16"}, "--dtype: \"float16\" is none of float32, float64; did you mean float32?"},
      {{"scaling", "--d-k", "16777216", "--tokens", "4096"}, "--d-k times --tokens must be at most 2^27"},
      {{"scaling", "--threads", "0"}, "--threads: 0 is below 1"},
      {{"scaling", "--config", "missing.toml"}, "--config: cannot read missing.toml"},
      {{"scaling", "--preset", "slow"}, "--preset: \"slow\" is none of quick, full"},
      {{"heads", "--heads", "7"}, "--heads must divide --d-model"},
      {{"heatmap", "--tokens", "  "}, "--tokens has no words"},
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
    CHECK(fs::is_empty(e.here));
  }
}

TEST_CASE("--out: a folder in use is refused without --force, one that cannot be made is said in one line") {
  const Elsewhere e;
  fs::create_directory("used");
  std::ofstream("used/mine.txt") << "mine";
  const Said refused = surgeon_says({"attention", "--out", "used"});
  CHECK(refused.exit == 2);
  CHECK(refused.err.find("used is not empty; --force") != std::string::npos);
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
  CHECK(plain.out.find('\x1b') == std::string::npos);
  CHECK(plain.err == "");   // no progress without a terminal
  CHECK(surgeon_says({"attention", "--out", "b", "--quiet"}).out == "");
  CHECK(surgeon_says({"attention", "--out", "c", "--color", "always"}).out.find('\x1b') != std::string::npos);
  std::istringstream text(plain.out);
  for (std::string line; std::getline(text, line);) CHECK_MESSAGE(line.size() <= 80, line);
}

TEST_CASE("help, list and version: exit 0, 80 columns, and examples that are understood") {
  const Elsewhere e;
  const std::string list = surgeon_says({"list"}).out;
  for (const Experiment& experiment : all_experiments()) {
    CAPTURE(experiment.name);
    CHECK(list.find(experiment.name) != std::string::npos);
    const Said help = surgeon_says({experiment.name, "--help"});
    CHECK(help.exit == 0);
    CHECK(experiment.examples.size() >= 2);
    for (const std::string& part : {experiment.question.substr(0, 30), std::string("Examples"), experiment.examples[0]})
      CHECK(help.out.find(part) != std::string::npos);
    std::istringstream text(help.out);
    for (std::string line; std::getline(text, line);) CHECK_MESSAGE(line.size() <= 80, line);
  }
  CHECK(surgeon_says({"--help"}).out.find("surgeon <experiment> [options]") != std::string::npos);
  const Said version = surgeon_says({"--version"});
  CHECK(version.exit == 0);
  CHECK(version.out.starts_with("surgeon "));
  CHECK(fs::is_empty(e.here));
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

TEST_CASE("Ctrl-C: exit 130, the folder is kept and marked aborted, with the rows so far") {
  const Elsewhere e;
  const Said said = surgeon_says({"small", "--out", "a", "--threads", "2"}, {small([](Lab& lab) {
                                   lab.row({{"a", 1.0}});
                                   lab.for_each(100, "work", [](std::int64_t i) { if (i == 3) std::raise(SIGINT); });
                                 })});
  CHECK(said.exit == 130);
  CHECK(json::parse(contents("a/meta.json"))["status"] == "aborted");
  CHECK(contents("a/metrics.csv") == "a\n1\n");
  CHECK_FALSE(Lab::interrupted());
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

TEST_CASE("without gnuplot: said once, the figure's numbers are written, exit 0") {
  const Elsewhere e;
  const std::string path = std::getenv("PATH");
  setenv("PATH", e.here.c_str(), 1);
  const Said said = surgeon_says({"masking", "--out", "a"});
  setenv("PATH", path.c_str(), 1);
  CHECK(said.exit == 0);
  CHECK(said.err.find("gnuplot is not installed") == said.err.rfind("gnuplot is not installed"));
  CHECK(said.err.find("gnuplot is not installed") != std::string::npos);
  CHECK(contents("a/figures/masks.csv").starts_with("panel,series,x,y,value,low,high\nCausal,,0,0,1,,\n"));
  CHECK_FALSE(fs::exists("a/figures/masks.svg"));
}

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

TEST_CASE("what is typed need not be UTF-8: the run and its JSON survive it") {
  const Elsewhere e;
  const Said said = surgeon_says({"heatmap", "--tokens", "s\xc3\xbc\xc3\x9f \xff\xfe", "--out", "a", "--json"});
  CHECK(said.exit == 0);
  CHECK(json::parse(said.out)["rows"][0]["query"] == "s\xc3\xbc\xc3\x9f");
  for (const char* name : {"a/config.json", "a/meta.json"}) CHECK(json::parse(contents(name)).is_object());
}

TEST_CASE("figures: nothing to draw, one point, and nan are drawn all the same") {
  if (std::system("gnuplot --version > /dev/null 2>&1") != 0) return;
  const Elsewhere e;
  const double nan = std::nan("");
  const std::vector<LineChart> charts = {
      {}, {.series = {{"s", {1}, {2}}}, .log_x = true, .log_y = true},
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
  for (const char* name : {"f0", "f1", "f2", "f3", "map"})
    for (const char* end : {".svg", ".png", ".csv"})
      CHECK(fs::exists(fs::path("a/figures") / (std::string(name) + end)));
}

TEST_CASE("all: every experiment of the notebook under one folder, --seeds goes to those that have it") {
  const Elsewhere e;
  std::vector<Experiment> list = all_experiments();
  const Said said = surgeon_says({"all", "--preset", "quick", "--seeds", "2", "--json", "--out", "everything"}, list);
  CHECK(said.exit == 0);
  CHECK(said.err == "");
  const json object = json::parse(said.out);
  CHECK(object["experiment"] == "all");
  for (const json& one : object["experiments"]) {
    const std::string name = one["experiment"];
    CHECK(fs::exists(fs::path("everything") / name / "summary.json"));
    if (name == "scaling") CHECK(one["config"]["seeds"] == 2);
  }
  CHECK(object["experiments"].size() >= 6);
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

}
