// Which scale keeps softmax most alive, and by which law it grows with the number of keys.
#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "experiments/figures.hpp"
#include "experiments/lab.hpp"
#include "layers/layers.hpp"

namespace surgeon::experiments {
namespace {

struct Knobs {
  std::vector<std::int64_t> keys{8, 16, 32, 64, 128, 256}, d_k{4, 64};
  std::vector<double> rho{0.0, 0.5};
  std::int64_t seeds = 16, queries = 16;
};

void options(Options& o, Knobs& k) {
  o.add("--keys", k.keys, "numbers of keys, n", {.low = 2, .high = 4096, .quick = "8,32,128"});
  o.add("--d-k", k.d_k, "sizes of the tokens that attend to each other", {.low = 2, .high = 4096});
  o.add("--rho", k.rho, "mean cosines of two of those tokens", {.low = 0, .high = 0.99});
  o.add("--seeds", k.seeds, "sets of keys, each with a best scale of its own", {.low = 2, .high = 1e5, .quick = "6"});
  o.add("--queries", k.queries, "queries over whose mean the norm is largest", {.low = 1, .high = 4096});
}

// ---- The scores to be scaled ---------------------------------------------------------------------------------------
// random: independent scores from N(0,1), so that the scale is their standard deviation. tokens: unit vectors attend to
// each other, themselves included; the scale is what multiplies cosines.
enum class Scores { random, tokens };

struct Setting {
  Scores scores = Scores::random;
  std::int64_t d_k = 0;
  double rho = 0;
  std::string name() const {
    return scores == Scores::random ? "independent scores" : fmt::format("tokens, d_k {}, rho {}", d_k, number(rho, 2));
  }
};

// Queries [1, queries, d] and keys [1, n, d] whose products are the scores.
std::pair<Tensor, Tensor> drawn(const Setting& s, std::int64_t n, std::int64_t queries, Rng& rng) {
  constexpr Dtype f64 = Dtype::float64;
  if (s.scores == Scores::random) return {randn({1, queries, n}, rng, f64), reshape(eye(n, f64), {1, n, n})};
  const Tensor common = randn({1, 1, s.d_k}, rng, f64), own = randn({1, n, s.d_k}, rng, f64);
  const Tensor x = common * std::sqrt(s.rho) + own * std::sqrt(1 - s.rho);
  const Tensor unit = x / sqrt(sum(x * x, Over{{-1}, true}));
  return {slice(unit, 1, 0, std::min(queries, n)), unit};
}

// ---- The best scale ------------------------------------------------------------------------------------------------
// The mean over queries of ||J|| at a scale whose logarithm is given, [1].
Tensor mean_norm(const Tensor& Q, const Tensor& K, const Tensor& log_scale) {
  const Tensor V = zeros({1, K.shape(1), 1}, Dtype::float64);
  return mean(attention(Q, K, V, {.scale = exp(log_scale), .return_stats = true}).stats.jacobian);
}

double value_at(const Tensor& Q, const Tensor& K, double t) {
  const NoRecord pause;
  return mean_norm(Q, K, tensor({t})).item();
}

struct Slopes { double first, second; };   // by ln scale, the second through the first

Slopes slopes_at(const Tensor& Q, const Tensor& K, double t) {
  const Tensor log_scale = tensor({t});
  const Tensor first = grad(mean_norm(Q, K, log_scale), {log_scale}, {.create_graph = true})[0];
  return {first.item(), grad(first, {log_scale})[0].item()};
}

// Newton's ascent on ln scale from the best point of a coarse grid; steps are cut where the curve bends upward.
double best_scale(const Tensor& Q, const Tensor& K) {
  double t = 0, most = -1;
  for (double at = -1; at < 7; at += 0.5)
    if (const double here = value_at(Q, K, at); here > most) most = here, t = at;
  for (int i = 0; i < 12; ++i) {
    const Slopes s = slopes_at(Q, K, t);
    const double step = s.second < 0 ? -s.first / s.second : std::copysign(0.2, s.first);
    t += std::clamp(step, -0.3, 0.3);
    if (std::abs(step) < 1e-7) break;
  }
  return std::exp(t);
}

// ---- Laws ----------------------------------------------------------------------------------------------------------
struct Law { const char* name; double (*scale)(const Setting&, double n); };

const std::vector<Law>& laws_of(Scores scores) {
  static const std::vector<Law> random = {
      {"sqrt(2 ln n)", [](const Setting&, double n) { return std::sqrt(2 * std::log(n)); }},
      {"ln n", [](const Setting&, double n) { return std::log(n); }},
      {"1", [](const Setting&, double) { return 1.0; }}};
  static const std::vector<Law> tokens = {
      {"ln n / (1-rho)", [](const Setting& s, double n) { return std::log(n) / (1 - s.rho); }},
      {"n^(2/(d-1))", [](const Setting& s, double n) { return std::pow(n, 2 / double(s.d_k - 1)); }},
      {"sqrt(2 d ln n)", [](const Setting& s, double n) { return std::sqrt(2 * double(s.d_k) * std::log(n)); }}};
  return scores == Scores::random ? random : tokens;
}

struct Found { Setting setting; std::int64_t n; Statistics scale; };

// How far a law is from what was found when it may have any constant in front: the scatter of ln(found / law).
double misfit(const std::vector<Found>& found, const Law& law) {
  std::vector<double> logs;
  for (const Found& f : found) logs.push_back(std::log(f.scale.geomean / law.scale(f.setting, double(f.n))));
  const double mean = statistics(logs).mean;
  double squares = 0;
  for (const double x : logs) squares += (x - mean) * (x - mean);
  return std::sqrt(squares / double(logs.size()));
}

void show(Lab& lab, const std::vector<Found>& found) {
  const Setting& setting = found[0].setting;
  Table table{"The best scale: " + setting.name(), {"keys", "best scale"}, {}};
  for (const Law& law : laws_of(setting.scores)) table.header.push_back(law.name);
  for (const Found& f : found) {
    std::vector<std::string> row{std::to_string(f.n), with_error(f.scale.mean, f.scale.se)};
    for (const Law& law : laws_of(setting.scores)) {
      row.push_back(number(law.scale(setting, double(f.n)), 4));
      lab.row(Row{{"scores", setting.name()}, {"keys", f.n}, {"law", law.name},
                  {"predicted", law.scale(setting, double(f.n))}} + f.scale);
    }
    table.rows.push_back(row);
  }
  lab.show(table);
  if (found.size() < 3) return;
  const Law* best = nullptr;
  for (const Law& law : laws_of(setting.scores))
    if (!best || misfit(found, law) < misfit(found, *best)) best = &law;
  lab.verdict(fmt::format("{}: the best scale grows most nearly like {} (ratios scatter by {} %).", setting.name(),
                          best->name, number(100 * misfit(found, *best), 2)));
}

LineChart chart_of(const std::vector<Found>& found) {
  const Setting& setting = found[0].setting;
  LineChart chart{.title = setting.name(), .x_label = "keys", .y_label = "scale", .log_x = true, .log_y = true};
  Series measured{.name = "best"};
  for (const Found& f : found) {
    measured.x.push_back(double(f.n)), measured.y.push_back(f.scale.mean);
    measured.low.push_back(f.scale.mean - f.scale.se), measured.high.push_back(f.scale.mean + f.scale.se);
  }
  chart.series.push_back(measured);
  for (const Law& law : laws_of(setting.scores)) {
    Series line{.name = law.name, .x = measured.x, .dashed = true, .points = false};
    for (const double n : line.x) line.y.push_back(law.scale(setting, n));
    chart.series.push_back(line);
  }
  return chart;
}

void run(Lab& lab, const Knobs& k) {
  std::vector<Setting> settings{{}};
  for (const std::int64_t d : k.d_k)
    for (const double rho : k.rho) settings.push_back({Scores::tokens, d, rho});
  const auto seeds = std::size_t(k.seeds), sizes = k.keys.size();
  std::vector<double> scales(settings.size() * sizes * seeds);
  lab.for_each(std::ssize(scales), "best scale", [&](std::int64_t i) {
    const auto at = std::size_t(i);
    Rng rng = lab.rng(at);
    const auto [Q, K] = drawn(settings[at / seeds / sizes], k.keys[at / seeds % sizes], k.queries, rng);
    scales[at] = best_scale(Q, K);
  });
  Figure figure{.name = "best_scale", .title = "The scale with the largest mean softmax Jacobian", .columns = 3};
  for (std::size_t s = 0; s < settings.size(); ++s) {
    std::vector<Found> found;
    for (std::size_t j = 0; j < sizes; ++j)
      found.push_back({settings[s], k.keys[j], statistics(std::span(scales).subspan((s * sizes + j) * seeds, seeds))});
    show(lab, found);
    figure.panels.push_back(chart_of(found));
  }
  lab.draw(figure);
}

}  // namespace

Experiment best_scale_by_ascent() {
  return {"best-scale",
          "Which scale keeps softmax most alive, and by which law does it grow with the keys?",
          "Varied: the number of keys; independent scores, and unit tokens that attend to each other, by their size and "
          "mean cosine rho. Measured: the scale at which the mean over queries of ||J||, the norm of the softmax Jacobian, "
          "is largest, found by Newton's ascent through second derivatives. Look at which law's ratio to it stays "
          "constant: sqrt(2 ln n), where rows freeze; ln n / (1 - rho), where attention starts to copy; n^(2/(d-1)), for "
          "keys spread evenly on a sphere.",
          {"surgeon best-scale --preset quick", "surgeon best-scale --keys 8:512:x4 --d-k 16 --rho 0,0.9"},
          knobs<Knobs>(options, run)};
}

}  // namespace surgeon::experiments
