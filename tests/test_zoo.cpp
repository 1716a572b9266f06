// The doctor in the bug zoo: which law catches which mistake, which is diagnosed, and no false alarm on healthy layers.
// SURGEON_HEALTHY=1000 in the environment tries so many healthy layers in each format.
#include <doctest/doctest.h>

#include <cstdlib>
#include <map>
#include <set>
#include <sstream>

#include "framework/serialize.hpp"
#include "layers/doctor.hpp"
#include "layers/layers.hpp"
#include "tests/command.hpp"
#include "tests/zoo/zoo.hpp"

using namespace surgeon;
using namespace surgeon::tests;

namespace {

std::string padded(std::string text, std::size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

struct Caught {
  std::set<std::string> laws;
  std::string diagnosis = {};   // the surest
  bool right = false;   // it is among those given
};

Caught examined(const Exhibit& exhibit, const Specimen& s) {
  Caught caught;
  for (const Finding& f : examine(s).findings) {
    if (f.kind == Finding::Kind::broken_law) caught.laws.insert(f.name);
    else if (caught.diagnosis.empty()) caught.diagnosis = f.name;
    caught.right = caught.right || (f.kind == Finding::Kind::diagnosis && f.name == exhibit.diagnosis);
  }
  return caught;
}

std::string matrix_row(const std::string& name, const Caught& c) {
  std::string row = padded(name, 42);
  for (const auto& [law, sentence] : laws_of_attention()) row += c.laws.contains(law) ? " x" : " .";
  return row + "  " + c.diagnosis + "\n";
}

std::string legend() {
  std::string text = "columns, the laws:";
  for (const auto& [law, sentence] : laws_of_attention()) text += " " + law + ",";
  text.back() = '\n';
  return text;
}

std::int64_t layers_to_try(std::int64_t usual) {
  const char* asked = std::getenv("SURGEON_HEALTHY");
  return asked ? std::atoll(asked) : usual;
}

std::string told(const Finding& f) {
  std::ostringstream text;
  text << f.name << " at " << f.where << ": " << f.found << " for " << f.expected << ", allowed " << f.allowed << "; "
       << f.evidence;
  return text.str();
}

}  // namespace

TEST_SUITE("zoo") {

TEST_CASE("zoo: every mistake is caught, in float32 and float64, and named where the numbers can tell") {
  for (Dtype dtype : {Dtype::float32, Dtype::float64}) {
    std::string matrix = legend();
    int by_laws = 0, by_diagnosis = 0;
    for (const Exhibit& exhibit : zoo()) {
      CAPTURE(exhibit.name);
      const Caught c = examined(exhibit, exhibit.make(7, dtype));
      matrix += matrix_row(exhibit.name, c);
      by_laws += !c.laws.empty();
      by_diagnosis += c.right;
      CHECK((!c.laws.empty() || !c.diagnosis.empty()));
      if (!exhibit.diagnosis.empty()) CHECK_MESSAGE(c.right, c.diagnosis);
      else CHECK_FALSE(c.laws.empty());
    }
    MESSAGE(to_string(dtype) << ": " << zoo().size() << " mistakes, " << by_laws << " break a law, " << by_diagnosis
                             << " are named\n"
                             << matrix);
    const std::string printed = read_bytes(source_folder() / "tests/zoo/matrix.txt");   // as the README shows it
    for (const Exhibit& exhibit : zoo()) CHECK_MESSAGE(has(printed, "\n" + exhibit.name), exhibit.name);
    CHECK(zoo().size() >= 30);
    CHECK(by_diagnosis >= 22);
  }
}

TEST_CASE("zoo: most mistakes are named from the output alone, without weights and gradients") {
  int named = 0, nameable = 0;
  for (const Exhibit& exhibit : zoo()) {
    Specimen s = exhibit.make(8, Dtype::float32);
    s.weights = s.dO = s.dQ = s.dK = s.dV = Tensor();
    const Caught c = examined(exhibit, s);
    nameable += !exhibit.diagnosis.empty();
    named += c.right;
  }
  MESSAGE(named << " of " << nameable << " named");
  CHECK(named >= 22);
}

TEST_CASE(
    "zoo: no false alarm on correct layers, in any format; of extreme ones it may say that they are saturated") {
  for (const auto& [format, name] :
       {std::pair{Format::float32, "float32"}, {Format::float64, "float64"}, {Format::bfloat16, "bfloat16"}})
    for (Scores scores : {Scores::healthy, Scores::extreme}) {
      int alarms = 0;
      const std::int64_t layers = layers_to_try(60);
      for (std::int64_t seed = 0; seed < 2 * layers; ++seed) {
        Specimen s = correct_layer(std::uint64_t(seed / 2), format, scores);
        if (seed % 2 == 1) s.weights = s.output = Tensor();   // and once more with nothing but gradients
        for (const Finding& f : examine(s).findings) {
          const bool true_of_them = f.name == "saturation" || f.name == "attention sink";
          if (scores == Scores::extreme && true_of_them) continue;
          ++alarms;
          FAIL_CHECK(std::string(name), ", seed ", seed, ": ", told(f));
        }
      }
      MESSAGE(std::string(name) << ": " << alarms << " false alarms on " << layers
                                << (scores == Scores::healthy ? " healthy layers" : " extreme layers"));
    }
}

TEST_CASE("doctor: laws say what they need, and hold on a healthy layer with everything kept") {
  Rng rng(3);
  const Shape shape{1, 2, 6, 4};
  Specimen s{.Q = randn(shape, rng), .K = randn(shape, rng), .V = randn(shape, rng), .causal = true};
  CHECK(examine(s).unchecked.size() == laws_of_attention().size() - 1);
  const AttentionResult r = attention(s.Q, s.K, s.V, {.return_weights = true, .causal = true});
  s.dO = randn(shape, rng);
  const auto [dQ, dK, dV, dS, dP] = grad(r.output, {s.Q, s.K, s.V, r.scores, r.weights}, {.cotangent = s.dO});
  s.weights = r.weights.detach(), s.output = r.output.detach();
  s.dQ = dQ, s.dK = dK, s.dV = dV, s.dS = dS, s.dP = dP;
  const Examination e = examine(s);
  CHECK(e.findings.empty());
  CHECK(e.unchecked.empty());
  CHECK(e.held.size() == laws_of_attention().size() - 1);
  s.dS = dS + full_like(dS, 1e-3);
  std::set<std::string> broken;
  for (const Finding& f : examine(s).findings) broken.insert(f.name);
  CHECK(broken.contains("rows of dS cancel"));
  CHECK(broken.contains("masked dS"));
}

TEST_CASE("doctor: sickness that no formula shows: dead heads, collapse, saturation, a sink") {
  const auto named = [](const Specimen& s, const std::string& name) {
    for (const Finding& f : examine(s).findings)
      if (f.name == name) return true;
    return false;
  };
  Rng rng(5);
  const Shape shape{1, 2, 20, 8};
  const Tensor Q = randn(shape, rng), K = randn(shape, rng), V = randn(shape, rng);
  CHECK_FALSE(named({.Q = Q, .K = K, .V = V}, "saturation"));
  CHECK(named({.Q = Q * 100.0, .K = K, .V = V}, "saturation"));
  CHECK(named({.Q = Q, .K = K, .V = concat({slice(V, 1, 0, 1), zeros({1, 1, 20, 8})}, 1)}, "dead head"));
  const Tensor one = slice(K, 2, 0, 1);
  CHECK(named({.Q = Q, .K = one + K * 1e-4, .V = one + V * 1e-4}, "rank collapse"));
  Tensor sunk = concat({full({1, 2, 1, 8}, 3.0), slice(K, 2, 1) * 0.1}, 2);
  CHECK(named({.Q = abs(Q), .K = sunk, .V = V}, "attention sink"));
}

TEST_CASE("doctor: the command exits with 3 and both numbers of a broken law, with 0 on a healthy file") {
  const Elsewhere e;
  const auto file = [](const Specimen& s) {
    save_npz("a.npz", {{"Q", s.Q},
                       {"K", s.K},
                       {"V", s.V},
                       {"weights", s.weights},
                       {"output", s.output},
                       {"dO", s.dO},
                       {"dQ", s.dQ},
                       {"dK", s.dK},
                       {"dV", s.dV}});
    return surgeon_says({"doctor", "a.npz", "--layout", "BHTd", "--causal"});
  };
  const Specimen sick = zoo().back().make(1, Dtype::float32);
  const Said said = file(sick);
  CHECK(said.exit == 3);
  CHECK(said.err == "");
  CHECK(has(said.out, "BROKEN LAW"));
  CHECK(has(said.out, "must be"));
  check_width(said.out);
  Specimen well = sick;
  const auto [dQ, dK, dV] = grad(attention(well.Q, well.K, well.V, {.causal = true}).output, {well.Q, well.K, well.V},
                                 {.cotangent = well.dO});
  well.dQ = dQ, well.dK = dK, well.dV = dV;
  CHECK(file(well).exit == 0);
  CHECK(surgeon_says({"doctor"}).exit == 2);
}

TEST_CASE("assert_connected: names every parameter that no gradient reaches") {
  Rng rng(1);
  const MultiHeadAttention mha(8, 2, rng);
  const Tensor x = randn({1, 3, 8}, rng);
  CHECK_NOTHROW(assert_connected(sum(mha(x).output), mha.parameters()));
  const Tensor cut = mha.W_o(stop_gradient(mha.W_v(x)));
  try {
    assert_connected(sum(cut), mha.parameters());
    FAIL_CHECK("nothing was thrown");
  } catch (const std::invalid_argument& error) {
    const std::string what = error.what();
    for (const char* name : {"W_q.weight", "W_k.bias", "W_v.weight", "W_v.bias"}) CHECK(has(what, name));
    CHECK_FALSE(has(what, "W_o"));
  }
}

}
