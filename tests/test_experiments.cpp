// Each experiment, taken from the list of all: its help, its examples, the files it promises; and scaling's numbers.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iomanip>
#include <sstream>

#include <nlohmann/json.hpp>

#include "framework/serialize.hpp"
#include "layers/layers.hpp"
#include "tests/command.hpp"
#include "tests/golden/golden.hpp"

using namespace surgeon;
using namespace surgeon::tests;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// Words as a shell would make them of a line with double quotes.
std::vector<std::string> words_in(const std::string& line) {
  std::vector<std::string> words;
  std::istringstream in(line);
  for (std::string word; in >> std::ws && (in.peek() == '"' ? in >> std::quoted(word) : in >> word);)
    words.push_back(word);
  return words;
}

std::string verses() {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "In the beginning God created the heaven and the earth. ";
  return text;
}

// As another program saved it: a GPT-2 of two layers.
std::string published_model() {
  for (const json& written : golden_cases("foreign.json"))
    if (written["name"] == "GPT-2") return from_hexadecimal(written["bytes"]);
  throw std::logic_error("foreign.json has no GPT-2");
}

// As a user's own file: one causal layer of two heads, with its gradients.
Parameters some_attention() {
  Rng rng(3);
  const Tensor Q = randn({1, 2, 12, 8}, rng), K = randn({1, 2, 12, 8}, rng), V = randn({1, 2, 12, 8}, rng);
  const Tensor dO = randn(V.shape(), rng);
  const AttentionResult r = attention(Q, K, V, {.return_weights = true, .causal = true});
  const auto [dQ, dK, dV] = grad(r.output, {Q, K, V}, {.cotangent = dO});
  return {{"Q", Q}, {"K", K}, {"V", V}, {"weights", r.weights}, {"dO", dO}, {"dQ", dQ}, {"dK", dK}, {"dV", dV}};
}

// The same, made small: fewer draws and steps, and a short text; on one thread, as others wait long on a busy machine.
std::vector<std::string> small_words(const Experiment& experiment, const std::string& example, std::int64_t steps) {
  std::vector<std::string> words = words_in(example);
  REQUIRE(words.at(0) == "surgeon");
  REQUIRE(words.at(1) == experiment.name);
  words.erase(words.begin());
  Options options;
  const auto keep = experiment.prepare(options);
  for (const Options::Entry& entry : options.entries()) {
    if (entry.name == "--seeds") words.push_back("--seeds=2");
    if (entry.name == "--steps") words.push_back("--steps=" + std::to_string(steps));
    const bool reads_text = std::find(words.begin(), words.end(), "text") != words.end();
    if (entry.name == "--file" && reads_text) words.push_back("--file=verses.txt");
  }
  return words;
}

void check_example(const Experiment& experiment, const std::string& example, std::int64_t steps) {
  std::vector<std::string> words = small_words(experiment, example, steps);
  words.insert(words.end(), {"--json", "--threads=1"});
  const Said said = surgeon_says(words);
  CHECK(said.exit == 0);
  CHECK(said.err == "");
  const json object = json::parse(said.out);
  CHECK(object["experiment"] == experiment.name);
  CHECK(object["config"].contains("seed"));
  const fs::path folder = "runs/latest";
  CHECK(contents(folder / "summary.json") == said.out);
  CHECK(json::parse(contents(folder / "meta.json"))["status"] == "done");
  CHECK(json::parse(contents(folder / "config.json"))["experiment"] == experiment.name);
  const std::size_t rows = object["rows"].size();
  CHECK(rows > 0);
  CHECK(lines(contents(folder / "metrics.jsonl")) == rows);
  CHECK(lines(contents(folder / "metrics.csv")) == rows + 1);
  if (!fs::exists(folder / "figures") || std::system("gnuplot --version > /dev/null 2>&1") != 0) return;
  for (const auto& entry : fs::directory_iterator(folder / "figures"))
    for (const char* end : {".csv", ".svg", ".png"}) CHECK(fs::exists(fs::path(entry.path()).replace_extension(end)));
}

}  // namespace

TEST_SUITE("experiments") {

TEST_CASE("every experiment: its help says what it asks, in 80 columns, and list names it") {
  const Elsewhere e;
  const std::string list = surgeon_says({"list"}).out;
  for (const Experiment& experiment : all_experiments()) {
    CAPTURE(experiment.name);
    CHECK(has(list, experiment.name));
    const Said help = surgeon_says({experiment.name, "--help"});
    CHECK(help.exit == 0);
    CHECK(help.err == "");
    check_width(help.out);
    CHECK(experiment.examples.size() >= 2);
    CHECK(has(help.out, experiment.question.substr(0, 30)));
    for (const std::string& example : experiment.examples) CHECK(has(help.out, "\n  " + example + "\n"));
    CHECK(surgeon_says({experiment.name, "-h"}).out == help.out);
    CHECK(surgeon_says({"help", experiment.name}).out == help.out);
  }
  CHECK(fs::is_empty(e.folder.path));
}

TEST_CASE("every experiment: the examples of its help run, and leave the files that were promised") {
  const Elsewhere e;
  write_bytes("verses.txt", verses());
  write_bytes("model.pt", published_model());
  save_npy("tokens.npy", tensor({std::int64_t{1}, std::int64_t{4}, std::int64_t{2}}, {1, 3}));
  save_npz("attention.npz", some_attention());
  for (const char* run : {"runs/one", "runs/two"})   // what some examples read
    REQUIRE(surgeon_says({"train", "copy", "--steps", "1", "--threads", "1", "--quiet", "--out", run}).exit == 0);
  for (const Experiment& experiment : all_experiments()) {
    std::int64_t steps = 0;   // more each time, so that an example may go on where the one before it ended
    for (const std::string& example : experiment.examples) {
      CAPTURE(example);
      check_example(experiment, example, ++steps);
    }
  }
}

TEST_CASE("import, then inspect and doctor, from a PyTorch file to a page; runs/latest is read before it moves") {
  const Elsewhere e;
  write_bytes("model.pt", published_model());
  REQUIRE(surgeon_says({"import", "model.pt", "--heads", "4", "--quiet"}).exit == 0);
  const Said doctor = surgeon_says({"doctor", "runs/latest", "--quiet", "--out", "d"});
  CHECK(doctor.exit == 0);
  const Said inspect = surgeon_says({"inspect", "runs/latest/attention.safetensors", "--json"});
  CHECK(inspect.err == "");
  CHECK(inspect.exit == 0);
  CHECK(json::parse(inspect.out)["rows"].size() == 8);   // two layers of four heads
  CHECK(fs::exists("runs/latest/report.html"));
  CHECK(surgeon_says({"inspect", "runs/latest/none.npz"}).exit == 1);
  CHECK(fs::exists("runs/latest/report.html"));   // nothing was made, and latest stays
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

}
