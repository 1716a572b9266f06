// `surgeon inspect` on files as a user of another framework would write them: every number against PyTorch, the page,
// and what it refuses to guess.
#include <doctest/doctest.h>

#include <map>
#include <sstream>

#include "framework/checkpoints.hpp"
#include "framework/serialize.hpp"
#include "layers/layers.hpp"
#include "tests/command.hpp"
#include "tests/golden/golden.hpp"

using namespace surgeon;
using namespace surgeon::tests;

namespace {

// The numbers that make_specimen_golden.py uses.
Tensor value(double place) {
  return reshape(sin(arange(2 * 3 * 7 * 4, Dtype::float64) * (0.37 * (1 + 0.1 * place)) + 1.3 * place), {2, 3, 7, 4});
}

Parameters specimen() { return {{"Q", value(1)}, {"K", value(2)}, {"V", value(3)}, {"dO", value(4)}}; }

std::vector<std::string> fields(const std::string& line) {
  std::vector<std::string> all;
  std::istringstream in(line);
  for (std::string field; std::getline(in, field, ',');) all.push_back(field);
  return all;
}

// The columns of a CSV by name.
std::map<std::string, std::vector<std::string>> table(const std::string& path) {
  std::istringstream in(contents(path));
  std::string line;
  std::getline(in, line);
  const std::vector<std::string> names = fields(line);
  std::map<std::string, std::vector<std::string>> columns;
  while (std::getline(in, line)) {
    const std::vector<std::string> row = fields(line);
    for (std::size_t i = 0; i < names.size(); ++i) columns[names[i]].push_back(i < row.size() ? row[i] : "");
  }
  return columns;
}

void check_head(const Json& expected, std::size_t head, const std::vector<std::string>& names,
                const std::vector<std::string>& found) {
  for (std::size_t i = 0, at = 0; i < found.size(); ++i) {
    if (names[i] != std::to_string(head)) continue;
    const double right = expected[head].is_array() ? expected[head][at++].get<double>() : expected[head].get<double>();
    CHECK(std::stod(found[i]) == doctest::Approx(right).scale(1).epsilon(1e-12));
  }
}

std::vector<std::string> words(const std::string& file, std::vector<std::string> more) {
  std::vector<std::string> all{"inspect", file, "--out", "run", "--force", "--threads", "1"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

}  // namespace

TEST_SUITE("inspect") {

TEST_CASE("inspect: every number of a head agrees with PyTorch, for [B, heads, T, d] and for [B, T, heads, d]") {
  const Elsewhere e;
  Parameters turned;
  for (const auto& [name, x] : specimen()) turned.add(name, permute(x, {0, 2, 1, 3}));
  save_npz("bhtd.npz", specimen());
  save_safetensors("bthd.safetensors", turned);
  for (const Json& test : golden_cases("specimen.json"))
    for (const auto& [file, layout] : {std::pair{"bhtd.npz", "BHTd"}, {"bthd.safetensors", "BTHd"}}) {
      std::vector<std::string> more{"--layout", layout, "--sequence", "1", "--scale", test["scale"].dump()};
      if (test["causal"].get<bool>()) more.push_back("--causal");
      const Said said = surgeon_says(words(file, more));
      REQUIRE_MESSAGE(said.exit == 0, said.err);
      auto rows = table("run/positions.csv"), heads = table("run/metrics.csv");
      for (const char* name : {"dQ", "dK", "dV", "entropy", "largest_score", "jacobian", "value_share_by_weights"})
        for (std::size_t h = 0; h < 3; ++h) check_head(test[name], h, rows["head"], rows[name]);
      for (std::size_t h = 0; h < 3; ++h) check_head(test["output_rank"], h, heads["head"], heads["output_rank"]);
    }
}

TEST_CASE("inspect: the blocks of a long sequence, a bias, a window and a padding mask give what one piece gives") {
  const Elsewhere e;
  Rng rng(5);
  const std::int64_t T = 530, Tk = 2100;   // several blocks of queries
  const Tensor Q = randn({1, 1, T, 4}, rng, Dtype::float64), K = randn({1, 1, Tk, 4}, rng, Dtype::float64);
  const Tensor V = randn({1, 1, Tk, 3}, rng, Dtype::float64), dO = randn({1, 1, T, 3}, rng, Dtype::float64);
  const Tensor bias = randn({T, Tk}, rng, Dtype::float64), mask = padding_mask({2000}, Tk);
  save_npz("long.npz",
           {{"Q", Q}, {"K", K}, {"V", V}, {"dO", dO}, {"bias", bias}, {"mask", reshape(mask, {1, 1, 1, Tk})}});
  const Said said = surgeon_says(words("long.npz", {"--layout", "BHTd", "--causal", "--window", "700"}));
  REQUIRE_MESSAGE(said.exit == 0, said.err);
  const AttentionResult r = attention(
      Q, K, V,
      {.mask = reshape(mask, {1, 1, 1, Tk}), .return_stats = true, .causal = true, .window = 700, .bias = bias});
  const auto [dQ, dK, dV] = grad(r.output, {Q, K, V}, {.cotangent = dO});
  auto rows = table("run/positions.csv");
  const auto check = [&](const char* name, const Tensor& right) {
    for (std::int64_t i = 0; i < right.size(); i += 7)
      CHECK(std::stod(rows[name][std::size_t(i)]) == doctest::Approx(right.at({i})).scale(1).epsilon(1e-11));
  };
  const auto norms = [](const Tensor& x) { return sqrt(sum(x * x, -1))[0][0]; };
  check("dQ", norms(dQ));
  check("dK", norms(dK));
  check("dV", norms(dV));
  check("entropy", r.stats.entropy[0][0]);
}

TEST_CASE("inspect: the page stands alone, says what was found, and shows names as they are") {
  const Elsewhere e;
  Parameters layers;
  for (const auto& [name, x] : specimen())
    if (name != "dO") layers.add("<b>0." + name, x);
  save_npz("layers.npz", layers);
  const Said said =
      surgeon_says(words("layers.npz", {"--layout", "BHTd", "--causal", "--tokens", "a b c <d> e f g"}));
  REQUIRE_MESSAGE(said.exit == 0, said.err);
  const std::string page = contents("run/report.html");
  CHECK_FALSE(has(page, "<script"));
  CHECK_FALSE(has(page, "<b>"));
  CHECK(has(page, "&lt;b&gt;0.2"));
  CHECK(has(page, "4 random ones"));
  for (const char* name : {"src=\"http", "href=\"http"}) CHECK_FALSE(has(page, name));
  if (std::system("gnuplot --version > /dev/null 2>&1") == 0) {
    CHECK(has(page, "<svg"));
    CHECK_FALSE(has(page, "<?xml"));
  }
  CHECK(has(said.out, "a causal mask with equal weights"));
}

TEST_CASE("inspect: theirs is held against ours") {
  const Elsewhere e;
  Parameters file = specimen();
  const auto [dQ, dK, dV] = grad(attention(file["Q"], file["K"], file["V"]).output, {file["Q"], file["K"], file["V"]},
                                 {.cotangent = file["dO"]});
  file.add("dQ", dQ);
  file.add("dK", dK * 1.01);
  save_npz("theirs.npz", file);
  const Said said = surgeon_says(words("theirs.npz", {"--layout", "BHTd", "--json"}));
  const Json result = Json::parse(said.out)["result"];
  CHECK(result["dQ_off"].get<double>() < 1e-14);
  CHECK(result["dK_off"].get<double>() == doctest::Approx(0.01));
  CHECK_FALSE(result.contains("dV_off"));
}

TEST_CASE("inspect: what could be either is refused, and what is missing or left over is named") {
  const Elsewhere e;
  save_npz("a.npz", specimen());
  const Said either = surgeon_says({"inspect", "a.npz"});
  CHECK(either.exit == 2);
  CHECK(has(either.err, "--layout"));
  save_npz("cross.npz", {{"Q", value(1)}, {"K", slice(value(2), 2, 0, 5)}, {"V", slice(value(3), 2, 0, 5)}});
  CHECK(surgeon_says(words("cross.npz", {})).exit == 0);   // five keys cannot be heads of seven: only one order fits
  save_npz("b.npz", {{"Q", value(1)}, {"V", value(3)}, {"extra", value(2)}});
  const Said missing = surgeon_says({"inspect", "b.npz"});
  CHECK(missing.exit == 2);
  CHECK(has(missing.err, "K is missing"));
  const Said named = surgeon_says(words("b.npz", {"--tensor", "K=extra", "--layout", "BHTd"}));
  CHECK(named.exit == 0);
  save_npy("K.npy", value(2));
  CHECK(has(surgeon_says(words("b.npz", {"--tensor", "K=K.npy", "--layout", "BHTd"})).err, "extra"));
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"inspect"},
                                                {"inspect", "a.npz", "--layout", "BHTd", "--tokens", "one two"},
                                                {"inspect", "a.npz", "--layout", "BHTd", "--sequence", "2"},
                                                {"inspect", "a.npz", "--layout", "BHTd", "--scale", "x"},
                                                {"inspect", "a.npz", "--tensor", "nonsense=Q"},
                                                {"inspect", "a.txt"}})
    CHECK(surgeon_says(wrong).exit == 2);
  CHECK(surgeon_says({"inspect", "none.npz"}).exit == 1);
  CHECK_FALSE(std::filesystem::exists("runs/latest/report.html"));
}

TEST_CASE("inspect: a run of train, one of its checkpoints, and a run of twins, each with the gradients of its own loss") {
  const Elsewhere e;
  const std::vector<std::string> small{"--steps", "3", "--tokens", "8", "--d-model", "16", "--heads", "2", "--batch", "4",
                                       "--checkpoint-every", "2", "--quiet", "--out", "trained"};
  std::vector<std::string> train{"train", "copy", "--positions", "rotary", "--kv-heads", "1", "--dtype", "float64"};
  train.insert(train.end(), small.begin(), small.end());
  REQUIRE(surgeon_says(train).exit == 0);
  for (const char* what : {"trained", "trained/checkpoints/step-0000002.safetensors"}) {
    const Said said = surgeon_says(words(what, {"--json"}));
    REQUIRE_MESSAGE(said.exit == 0, said.err);
    const Json result = Json::parse(said.out);
    CHECK(result["rows"].size() == 4);
    CHECK(result["rows"][0]["head"].get<std::string>().starts_with("blocks."));
    for (const char* off : {"output_off", "dQ_off"}) CHECK(result["result"][off].get<double>() < 1e-12);
    CHECK(has(contents("run/report.html"), "of training on copy"));
    const Said doctor = surgeon_says({"doctor", what, "--quiet", "--out", "d", "--force"});
    CHECK_MESSAGE(doctor.exit == 0, contents("d/summary.json"));
  }
  CHECK(has(surgeon_says(words("trained", {"--scale", "none"})).err, "--scale has no effect on a run"));
  CHECK(has(surgeon_says(words("trained", {"--sequence", "4"})).err, "there are 4"));
  REQUIRE(surgeon_says({"twins", "--rules", "sqrt,none+qk-l2", "--seeds", "2", "--steps", "2", "--d-model", "16", "--tokens",
                        "8", "--batch", "4", "--quiet", "--out", "both"}).exit == 0);
  const Said twins = surgeon_says(words("both", {"--json"}));
  REQUIRE_MESSAGE(twins.exit == 0, twins.err);
  CHECK(has(twins.out, "\"none+qk-l2.blocks.1.0\""));
  CHECK(has(twins.out, "\"sqrt.blocks.0.0\""));
  CHECK(surgeon_says({"train", "--resume", "both/checkpoints/none+qk-l2.safetensors", "--steps", "3", "--quiet"}).exit == 0);
}

TEST_CASE("inspect: what a run's model cannot show is refused before a folder exists, by name") {
  const Elsewhere e;
  const auto refusal = [](const std::string& what) {
    const Said said = surgeon_says({"inspect", what});
    CHECK(said.exit == 2);
    CHECK_FALSE(std::filesystem::exists("runs"));
    return said.err;
  };
  for (const auto& [out, option, value] : {std::tuple{"a", "--weighting", "sigmoid"}, {"b", "--layers", "0"}}) {
    REQUIRE(surgeon_says({"train", "copy", option, value, "--steps", "1", "--d-model", "8", "--out", out}).exit == 0);
    CHECK(has(refusal(out), "checkpoints/last.safetensors"));
  }
  std::filesystem::create_directories("empty");
  CHECK(has(refusal("empty"), "not a run of train, twins or import"));
  const Linear layer = [] { Rng rng(1); return Linear(2, 2, rng); }();
  Sgd optimizer(layer.parameters(), SgdOptions{});
  save_checkpoint("own.safetensors", layer.parameters(), optimizer, {.config = "my own words"});
  CHECK(has(refusal("own.safetensors"), "is not a checkpoint of surgeon train"));
  save_npz("w.npz", layer.parameters());
  CHECK(has(refusal("w.npz"), "--heads must say"));
}

TEST_CASE("inspect: weights with an input give what import and then inspect give") {
  const Elsewhere e;
  Rng rng(2);
  const Tensor x = randn({2, 5, 8}, rng);
  Parameters weights;
  for (const char* name : {"in_proj_weight", "out_proj.weight"})
    weights.add(name, randn({name[0] == 'i' ? 24 : 8, 8}, rng));
  save_npz("layer.npz", weights);
  save_npy("x.npy", x);
  const std::vector<std::string> how{"--heads", "2", "--causal", "--input", "x.npy"};
  std::vector<std::string> import{"import", "layer.npz", "--quiet", "--out", "imported"};
  import.insert(import.end(), how.begin(), how.end());
  REQUIRE(surgeon_says(import).exit == 0);
  REQUIRE(surgeon_says(words("layer.npz", how)).exit == 0);
  const std::string at_once = contents("run/positions.csv");
  REQUIRE(surgeon_says(words("imported", {})).exit == 0);
  CHECK(at_once == contents("run/positions.csv"));
  CHECK(has(surgeon_says(words("layer.npz", {"--heads", "2", "--scale", "none"})).err, "--scale has no effect on weights"));
  CHECK(has(surgeon_says(words("imported", {"--length", "9"})).err, "--length has no effect on tensors"));
}

}
