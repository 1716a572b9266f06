// The doctor in the bug zoo: which law catches which mistake, which is diagnosed, and no false alarm on healthy layers.
// SURGEON_HEALTHY=1000 in the environment tries so many healthy layers in each format, SURGEON_FIRST_SEED=N others.
#include <doctest/doctest.h>

#include <algorithm>
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

const Exhibit& exhibit(const std::string& name) {
  return *std::find_if(zoo().begin(), zoo().end(), [&](const Exhibit& e) { return e.name == name; });
}

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
  for (const LawOfAttention& law : laws_of_attention()) row += c.laws.contains(law.name) ? " x" : " .";
  return row + (c.diagnosis.empty() ? "" : "  " + c.diagnosis) + "\n";
}

std::string legend() {
  std::string text = "columns, the laws:";
  for (const LawOfAttention& law : laws_of_attention()) text += " " + law.name + ",";
  text.back() = '\n';
  return text;
}

std::int64_t from_environment(const char* name, std::int64_t usual) {
  const char* asked = std::getenv(name);
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

// All rows in float64, and of the other formats those that differ.
TEST_CASE("zoo: every mistake is caught in float32 and float64, and named where the numbers can tell") {
  std::string printed =
      "The bug zoo: which law catches which mistake (x), and what the doctor says it is. Printed by `surgeon_tests "
      "-ts=zoo`.\n" +
      legend();
  std::map<std::string, std::string> rows;
  for (Format format : {Format::float64, Format::float32, Format::bfloat16, Format::float16}) {
    const bool half = format == Format::bfloat16 || format == Format::float16;
    int by_laws = 0, by_diagnosis = 0, caught = 0;
    std::string text;
    for (const Exhibit& exhibit : zoo()) {
      CAPTURE(exhibit.name);
      const Caught c = examined(exhibit, exhibit.make(7, format));
      const std::string row = matrix_row(exhibit.name, c);
      if (rows[exhibit.name] != row) text += row;
      if (format == Format::float64) rows[exhibit.name] = row;
      by_laws += !c.laws.empty();
      by_diagnosis += c.right;
      caught += !c.laws.empty() || !c.diagnosis.empty();
      if (half) continue;   // some mistakes are smaller than what eight bits can tell
      CHECK((!c.laws.empty() || !c.diagnosis.empty()));
      if (!exhibit.diagnosis.empty()) CHECK_MESSAGE(c.right, c.diagnosis);
      else CHECK_FALSE(c.laws.empty());
    }
    printed += "\n" + to_string(format) + ": " + std::to_string(zoo().size()) + " mistakes, " + std::to_string(caught) +
               " are caught, " + std::to_string(by_laws) + " break a law, " + std::to_string(by_diagnosis) +
               " are named" +
               (format == Format::float64 ? ""
                : text.empty()            ? ", all as in float64"
                                          : "; where not as in float64:") +
               "\n" + text;
    CHECK(zoo().size() >= 30);
    CHECK(by_diagnosis >= 22);
    CHECK(caught >= std::int64_t(zoo().size()) - 2);
  }
  MESSAGE(printed);
  CHECK_MESSAGE(read_bytes(source_folder() / "tests/zoo/matrix.txt") == printed, "the table of above belongs there");
}

TEST_CASE("zoo: most mistakes are named from the output alone, without weights and gradients") {
  int named = 0, nameable = 0;
  for (const Exhibit& exhibit : zoo()) {
    Specimen s = exhibit.make(8, Format::float32);
    s.weights = s.dO = s.dQ = s.dK = s.dV = Tensor();
    const Caught c = examined(exhibit, s);
    nameable += !exhibit.diagnosis.empty();
    named += c.right;
  }
  MESSAGE(named << " of " << nameable << " named");
  CHECK(named >= 22);
}

TEST_CASE("zoo: no false alarm on correct layers, in any format; of extreme ones it may say that they are saturated") {
  const std::int64_t layers = from_environment("SURGEON_HEALTHY", 40), from = from_environment("SURGEON_FIRST_SEED", 0);
  for (Format format : {Format::float32, Format::float64, Format::bfloat16, Format::float16})
    for (Scores scores : {Scores::healthy, Scores::extreme}) {
      int alarms = 0;
      for (std::int64_t seed = from; seed < from + layers; ++seed)
        for (bool alone : {false, true}) {
          Specimen s = correct_layer(std::uint64_t(seed), format, scores);
          if (alone) s.weights = s.output = Tensor();   // once more with nothing but gradients
          for (const Finding& f : examine(s).findings) {
            if (scores == Scores::extreme && f.name == "saturation") continue;
            ++alarms;
            FAIL_CHECK(to_string(format), ", seed ", seed, ": ", told(f));
          }
        }
      MESSAGE(to_string(format) << ": " << alarms << " false alarms on " << layers
                                << (scores == Scores::healthy ? " healthy layers" : " extreme layers"));
    }
}

TEST_CASE("doctor: laws say what they need, and hold on a healthy layer with everything kept") {
  Rng rng(3);
  const Shape shape{1, 2, 6, 4};
  Specimen s{.Q = randn(shape, rng), .K = randn(shape, rng), .V = randn(shape, rng), .causal = true};
  CHECK(examine(s).unchecked.size() == laws_of_attention().size() - 1);   // nan is always looked for
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
    const Examination e = examine(s);
    for (const auto* list : {&e.findings, &e.observations})
      for (const Finding& f : *list)
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

TEST_CASE("doctor: gradients of grouped heads obey the laws; a broken one names its key head and its query heads") {
  const Examination e = examine(exhibit("mean over the group in backward").make(3, Format::float32));
  const auto dV = std::find_if(e.findings.begin(), e.findings.end(), [](const Finding& f) { return f.name == "dV"; });
  REQUIRE(dV != e.findings.end());
  CHECK(has(dV->where, "key head"));
  CHECK(has(dV->where, "(heads "));
}

TEST_CASE("doctor: nan in what goes in is said to be there; where no query sees it, it counts for nothing") {
  Rng rng(4);
  const Shape shape{1, 2, 6, 4};
  Specimen s{.Q = randn(shape, rng), .K = randn(shape, rng), .V = randn(shape, rng)};
  s.mask = reshape(arange(6, Dtype::float32) < 5.0, {1, 1, 1, 6});
  const auto [output, weights, scores] = attention(s.Q, s.K, s.V, {.mask = s.mask, .return_weights = true});
  s.output = output, s.weights = weights;
  const Tensor last = reshape(arange(6, Dtype::float32) >= 5.0, {1, 1, 6, 1});
  s.K = masked_fill(s.K, last, std::nan(""));
  s.V = masked_fill(s.V, last, INFINITY);
  CHECK(examine(s).findings.empty());
  s.mask = Tensor();
  const Examination e = examine(s);
  REQUIRE(e.findings.size() == 1);
  CHECK(e.findings[0].name == "input not finite");
}

TEST_CASE("doctor: a bias of minus infinity is a mask; attention off by one is healthy when it is told") {
  Rng rng(6);
  const Shape shape{2, 2, 7, 4};
  Specimen s{.Q = randn(shape, rng), .K = randn(shape, rng), .V = randn(shape, rng)};
  s.dO = randn(shape, rng);
  s.bias = reshape(masked_fill(zeros({7, 7}), !causal_mask(7), -INFINITY), {1, 1, 7, 7});
  for (Weighting weighting : {Weighting::softmax, Weighting::off_by_one}) {
    s.weighting = weighting;
    const AttentionResult r =
        attention(s.Q, s.K, s.V, {.return_weights = true, .causal = true, .weighting = weighting});
    const auto [dQ, dK, dV] = grad(r.output, {s.Q, s.K, s.V}, {.cotangent = s.dO});
    s.output = r.output.detach(), s.weights = r.weights.detach();
    s.dQ = dQ, s.dK = dK, s.dV = dV;
    for (const Finding& f : examine(s).findings) FAIL_CHECK(told(f));
  }
  s.weighting = Weighting::softmax;
  CHECK_FALSE(examine(s).findings.empty());
}

TEST_CASE("doctor: float32 numbers of coarser products (as by TF32) are healthy when the bits are told") {
  Specimen s = correct_layer(11, Format::bfloat16, Scores::healthy);
  Rng rng(1);
  for (Tensor* x : {&s.Q, &s.K, &s.V, &s.dO, &s.weights, &s.output, &s.dQ, &s.dK, &s.dV})
    *x = (*x * (1.0 + randn(x->shape(), rng) * 1e-5)).detach();
  CHECK_FALSE(examine(s).findings.empty());
  CHECK(examine(s, 8).findings.empty());
}

namespace {

// A model that has learned to repeat, and what its optimizer remembers.
struct Trained {
  Transformer model;
  AdamW optimizer;
  std::int64_t steps = 0;
  Trained(TransformerConfig config, Rng rng, double eps)
      : model(config, rng), optimizer(model.parameters(), {.lr = 3e-3, .eps = eps}, {no_decay_on_vectors()}) {}

  static Tensor sequence(Rng& data) {
    const Tensor once = randint(0, 8, {8, 6}, data);
    return concat({once, once}, 1);
  }
  Tensor loss(const Tensor& twice) const {
    return cross_entropy(slice(model(slice(twice, 1, 0, -1)), 1, 5), slice(twice, 1, 6));
  }
  void learn(std::int64_t n, Rng& data) {
    for (; steps < n; ++steps)
      optimizer.step(grad(loss(sequence(data)), optimizer.parameters().tensors()));
  }
};

TransformerConfig small(Scale scale, std::int64_t kv_heads) {
  TransformerConfig config{.vocabulary = 8, .context = 12, .layers = 2};
  config.block = {.d_model = 32, .heads = 4};
  config.block.projections.kv_heads = kv_heads;
  config.attention = {.scale = scale};
  return config;
}

}  // namespace

TEST_CASE("doctor: trained layers are healthy, with and without the scale, with grouped heads") {
  for (const auto& [scale, kv_heads] : {std::pair{Scale(true), 4}, {Scale(false), 4}, {Scale(true), 2}}) {
    Rng data(2);
    Trained t(small(scale, kv_heads), Rng(1), 1e-8);
    t.learn(150, data);
    const Probe Q("*Q"), K("*K"), V("*V"), heads("*heads");
    const Tensor loss = t.loss(Trained::sequence(data));
    CHECK(loss.item() < 1);
    for (std::size_t layer = 0; layer < 2; ++layer) {
      Specimen s{.scale = scale, .causal = true};
      const auto take = [&](const Probe& look, std::int64_t n, Tensor& x, Tensor& dx) {
        x = heads_apart(look.seen()[layer].second.detach(), n);
        dx = heads_apart(look.gradients(loss)[layer].second, n);
      };
      take(Q, 4, s.Q, s.dQ), take(K, kv_heads, s.K, s.dK), take(V, kv_heads, s.V, s.dV), take(heads, 4, s.output, s.dO);
      const Examination e = examine(s);
      for (const Finding& f : e.findings) FAIL_CHECK(told(f));
      CHECK(e.held.size() >= 7);
    }
  }
}

TEST_CASE("doctor: Adam with a tiny eps moves the key bias by rounding noise, which its state shows (claim 31)") {
  for (double eps : {1e-14, 1e-4}) {
    Rng data(2);
    Trained t(small(true, 4), Rng(1), eps);
    t.learn(60, data);
    const std::vector<Finding> found = examine_key_biases(t.optimizer.state(), {.steps = 60, .eps = eps});
    CHECK(found.size() == (eps < 1e-10 ? 2 : 0));
    for (const Finding& f : found) {
      CHECK(has(f.where, "attention.W_k.bias"));
      CHECK(f.kind == Finding::Kind::observation);
    }
  }
  TransformerConfig rotated = small(true, 4);   // here the bias has a gradient of its own
  rotated.positions = Positions::rotary;
  Rng data(2);
  Trained t(rotated, Rng(1), 1e-14);
  t.learn(60, data);
  CHECK(examine_key_biases(t.optimizer.state(), {.steps = 60, .eps = 1e-14}).empty());
}

TEST_CASE("doctor: the page on it shows the zoo's table as it is, and every law") {
  const std::string page = read_bytes(source_folder() / "docs/doctor.md");
  CHECK(has(page, "```\n" + read_bytes(source_folder() / "tests/zoo/matrix.txt") + "```\n"));
  for (const LawOfAttention& law : laws_of_attention()) CHECK_MESSAGE(has(page, "| " + law.name + " |"), law.name);
  const std::string above = page.substr(0, page.find("## Which mistake"));
  for (const Exhibit& e : zoo()) CHECK_MESSAGE(has(above, e.diagnosis), e.diagnosis);
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
  const Specimen sick = exhibit("delta of the head beside").make(1, Format::float32);
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
  CHECK(surgeon_says({"doctor", "--checkpoint", "nowhere"}).exit == 1);
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

TEST_CASE(
    "assert_connected: tied parameters count once reached; unused and frozen ones are named; a loss needs a graph") {
  Rng rng(1);
  const Tensor w = randn({3}, rng), unused = randn({3}, rng), frozen = randn({3}, rng);
  const auto missing = [](const Tensor& loss, const Parameters& parameters) -> std::string {
    try {
      assert_connected(loss, parameters);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "";
  };
  Parameters tied;
  tied.add("embedding", w), tied.add("head", w);
  CHECK(missing(sum(w * w), tied) == "");
  Parameters all;
  all.add("w", w), all.add("unused", unused), all.add("frozen", frozen);
  CHECK(missing(sum(w * stop_gradient(frozen)), all) == "assert_connected: no gradient reaches unused, frozen");
  CHECK(missing(sum((w > 0.0).to(Dtype::float32)), tied) == "assert_connected: no gradient reaches embedding, head");
  const Tensor without = [&] {
    const NoRecord pause;
    return sum(w);
  }();
  CHECK(missing(without, all) == "assert_connected: no gradient reaches w, unused, frozen");
  CHECK(missing(sum(w), Parameters()) == "");
}
}
