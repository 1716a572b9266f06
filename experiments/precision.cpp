// The autopsy of low precision: which cast of which stage kills which row, or bends which gradient.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include <fmt/format.h>

#include "experiments/figures.hpp"
#include "experiments/specimen_files.hpp"
#include "framework/diagnostics.hpp"
#include "framework/low_precision.hpp"

namespace surgeon::experiments {
namespace {

// What is rounded: Q, K, V and dO; the scores; the weights P; delta = rowsum(P dP); dS; or every partial sum over the
// keys of P V, dP, dQ and over the queries of dK.
enum class Stage { inputs, scores, weights, delta, gradient, sums };
constexpr std::pair<Stage, const char*> stages[] = {{Stage::inputs, "inputs"},     {Stage::scores, "scores"},
                                                    {Stage::weights, "P"},         {Stage::delta, "delta"},
                                                    {Stage::gradient, "dS"},       {Stage::sums, "accumulators"}};
constexpr Format formats[] = {Format::bfloat16, Format::float16, Format::e4m3, Format::e5m2};

struct Knobs {
  SpecimenFiles files{.may_be_missing = true};
  RandomHeads random{.draws = 50};
  double static_scale = 256;
};

void options(Options& o, Knobs& k) {
  add_options(o, k.files);
  add_random_options(o, k.random, k.files);
  o.add("--static-scale", k.static_scale, "factor by which P and dS are multiplied before a cast, and divided after it, "
        "in the rows marked so", {.low = 1, .high = 1e6});
}

// ---- One way there and back, with one stage rounded ----------------------------------------------------------------
using Cast = std::function<Tensor(Stage stage, const Tensor& x)>;

struct Way { Tensor dS, dQ, dK; };

// a [m, k] times b [k, n], where each partial sum is cast.
Tensor summed(const Tensor& a, const Tensor& b, const Cast& cast) {
  Tensor sum = zeros({a.shape(0), b.shape(1)}, a.dtype());
  for (std::int64_t i = 0; i < a.shape(1); ++i)
    sum = cast(Stage::sums, sum + slice(a, 1, i, i + 1) * slice(b, 0, i, i + 1));
  return sum;
}

Way walked(const Specimen& s, Stage rounded, const Cast& cast) {
  const auto product = [&](const Tensor& a, const Tensor& b) {
    return rounded == Stage::sums ? summed(a, b, cast) : matmul(a, b);
  };
  const auto turned = [](const Tensor& x) { return transpose(x, 0, 1); };
  const Tensor Q = cast(Stage::inputs, s.Q), K = cast(Stage::inputs, s.K), V = cast(Stage::inputs, s.V);
  const Tensor dO = cast(Stage::inputs, s.dO);
  const double c = s.scale.factor(Q.shape(1), K.shape(0));
  Tensor scores = matmul(Q, turned(K)) * c, slope;
  if (s.soft_cap > 0) {
    const Tensor t = tanh(scores / s.soft_cap);
    slope = 1.0 - t * t;
    scores = t * s.soft_cap;
  }
  if (s.bias.defined()) scores = scores + s.bias;
  scores = cast(Stage::scores, scores);
  const Tensor visible = visible_in(s);
  if (visible.defined()) scores = masked_fill(scores, !visible, -std::numeric_limits<double>::infinity());
  const Tensor P = cast(Stage::weights, softmax(scores)), dP = product(dO, turned(V));
  const Tensor delta = cast(Stage::delta, sum(P * dP, Over{{1}, true}));
  const Tensor dS = cast(Stage::gradient, P * (dP - delta)), dA = slope.empty() ? dS : dS * slope;
  return {dS, product(dA, K) * c, product(turned(dA), Q) * c};
}

// ---- What a cast did -----------------------------------------------------------------------------------------------
struct Harm {
  std::int64_t rows = 0, killed = 0, lost = 0;   // dS exactly 0 where it was not; dS off by more than half
  double off = 0, size = 0, along = 0;           // sums over heads: |dQ' - dQ|^2, |dQ|^2, dQ' . dQ
  void add(const Way& exact, const Way& cast) {
    const std::vector<double> before = row_norms(exact.dS), after = row_norms(cast.dS);
    const std::vector<double> apart = row_norms(cast.dS - exact.dS);
    for (std::size_t i = 0; i < before.size(); ++i) {
      if (before[i] == 0) continue;   // a row that sees one key has no dS
      ++rows;
      killed += after[i] == 0;
      lost += !(apart[i] <= 0.5 * before[i]);   // nan is lost
    }
    const Tensor difference = cast.dQ - exact.dQ;
    off += sum(difference * difference).item(), size += sum(exact.dQ * exact.dQ).item();
    along += sum(cast.dQ * exact.dQ).item();
  }
  void add(const Harm& head) {
    rows += head.rows, killed += head.killed, lost += head.lost;
    off += head.off, size += head.size, along += head.along;
  }
  double error() const { return std::sqrt(off / size); }
  double gain() const { return along / size; }   // 1: dQ is as large as it should be, along itself
};

struct Case { std::size_t layer; Stage stage; const char* stage_name; Format format; double factor; };

std::vector<Case> cases(const Knobs& k, std::size_t layers) {
  std::vector<Case> all;
  for (std::size_t i = 0; i < layers; ++i)
    for (const Format format : formats)
      for (const auto& [stage, name] : stages) {
        all.push_back({i, stage, name, format, 1.0});
        if (stage == Stage::weights || stage == Stage::gradient) all.push_back({i, stage, name, format, k.static_scale});
      }
  return all;
}

// What each cast does to one head of a layer, in the order of the cases; nothing for the cases of other layers.
std::vector<Harm> harms_of(const std::vector<Case>& all, std::size_t layer, const Specimen& head) {
  const NoRecord pause;
  const Specimen s = in_float64(head);
  const Way exact = walked(s, Stage::inputs, [](Stage, const Tensor& x) { return x; });
  std::vector<Harm> harms(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Case& c = all[i];
    if (c.layer != layer) continue;
    harms[i].add(exact, walked(s, c.stage, [&](Stage stage, const Tensor& x) {
                   return stage == c.stage ? rounded_to(x * c.factor, c.format) / c.factor : x;
                 }));
  }
  return harms;
}

std::string name_of(const Case& c) {
  return c.factor == 1 ? c.stage_name : fmt::format("{} x {}", c.stage_name, number(c.factor));
}

void show(Lab& lab, const std::vector<Specimen>& layers, const std::vector<Case>& all, const std::vector<Harm>& harms) {
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    const std::string name = shown_name(layers[layer]);
    Table table{fmt::format("{}: rows of dS killed, rows lost, relative error of dQ, and its gain", name),
                {"format", "cast", "killed", "lost", "error of dQ", "gain"}, {}};
    for (std::size_t i = 0; i < all.size(); ++i) {
      const Case& c = all[i];
      const Harm& h = harms[i];
      if (c.layer != layer) continue;
      const double rows = double(h.rows);
      lab.row({{"layer", name}, {"format", to_string(c.format)}, {"cast", c.stage_name}, {"static_scale", c.factor},
               {"killed", double(h.killed) / rows}, {"lost", double(h.lost) / rows}, {"error_dQ", h.error()},
               {"gain_dQ", h.gain()}});
      table.rows.push_back({to_string(c.format), name_of(c), percent(double(h.killed) / rows),
                            percent(double(h.lost) / rows), number(h.error(), 2), fixed(h.gain(), 4)});
    }
    if (layer < 4) lab.show(table);
  }
}

void draw(Lab& lab, const std::vector<Specimen>& layers, const std::vector<Case>& all, const std::vector<Harm>& harms) {
  Figure figure{.name = "precision", .title = "Rows of dS that a cast costs more than half", .columns = 1};
  for (std::size_t layer = 0; layer < std::min<std::size_t>(layers.size(), 4); ++layer) {
    Bars bars{.title = layers[layer].name, .y_label = "share of rows"};
    for (const Format format : formats) {
      Series series{.name = to_string(format)};
      bars.names.clear();
      for (std::size_t i = 0; i < all.size(); ++i)
        if (all[i].layer == layer && all[i].format == format) {
          bars.names.push_back(name_of(all[i]));
          series.y.push_back(double(harms[i].lost) / double(harms[i].rows));
        }
      bars.series.push_back(series);
    }
    figure.panels.push_back(bars);
  }
  lab.draw(figure);
}

void run(Lab& lab, const Knobs& k) {
  const Subject subject = with_upstream(lab, k.files, k.random);
  const std::vector<Case> all = cases(k, subject.layers.size());
  std::vector<std::pair<std::size_t, std::int64_t>> heads;   // by layer
  for (std::size_t i = 0; i < subject.layers.size(); ++i)
    for (std::int64_t h = 0; h < subject.layers[i].heads(); ++h) heads.emplace_back(i, h);
  std::vector<std::vector<Harm>> by_head(heads.size());
  lab.for_each(std::ssize(heads), "heads", [&](std::int64_t i) {
    const auto [layer, head] = heads[std::size_t(i)];
    by_head[std::size_t(i)] = harms_of(all, layer, one_head(subject.layers[layer], k.random.sequence, head));
  });
  std::vector<Harm> harms(all.size());
  for (const std::vector<Harm>& head : by_head)
    for (std::size_t i = 0; i < all.size(); ++i) harms[i].add(head[i]);
  show(lab, subject.layers, all, harms);
  draw(lab, subject.layers, all, harms);
  for (std::size_t layer = 0; layer < std::min<std::size_t>(subject.layers.size(), 4); ++layer) {
    std::size_t worst = all.size();
    for (std::size_t i = 0; i < all.size(); ++i)
      if (all[i].layer == layer && all[i].format == Format::bfloat16 &&
          (worst == all.size() || harms[i].lost > harms[worst].lost))
        worst = i;
    const std::string name = shown_name(subject.layers[layer]);
    if (harms[worst].lost == 0) {
      lab.verdict(fmt::format("In {}, no cast to bfloat16 costs a row half of its dS.", name));
      continue;
    }
    lab.verdict(fmt::format("In {}, bfloat16 costs most in the cast of {}: {} of {} rows of dS are off by more than half.",
                            name, name_of(all[worst]), harms[worst].lost, harms[worst].rows));
  }
}

}  // namespace

Experiment precision() {
  return {"precision",
          "Which cast to few bits kills which row, and bends which gradient?",
          "Varied: the stage of attention that is rounded in software (inputs, scores, P, delta, dS, every partial sum), "
          "the format (bfloat16, float16, e4m3, e5m2), and a static scale on P and dS; on random heads, or on tensors, "
          "weights or a run, as for inspect. Measured against float64: rows of dS that become exactly 0, rows off by more "
          "than half, the relative error of dQ, and its gain (below 1: too small along itself). Look at the 8-bit "
          "formats' P, with and without the static scale.",
          {"surgeon precision", "surgeon precision attention.npz --layout BHTd --causal"},
          knobs<Knobs>(options, run)};
}

}  // namespace surgeon::experiments
