// Part 3 of the notebook, and what it leaves out: what 1/sqrt(d_k) does to the scores, to softmax, and to gradients.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "experiments/figures.hpp"
#include "experiments/lab.hpp"
#include "framework/diagnostics.hpp"
#include "layers/layers.hpp"

namespace surgeon::experiments {
namespace {

struct Knobs {
  std::vector<std::int64_t> d_k = {16, 64, 256, 1024};
  std::int64_t tokens = 10, seeds = 1000;
};

void options(Options& o, Knobs& k) {
  o.add("--d-k", k.d_k, "sizes of queries, keys and values", {.low = 1, .high = 1 << 24});
  o.add("--tokens", k.tokens, "queries and keys in a draw", {.low = 2, .high = 4096});
  o.add("--seeds", k.seeds, "draws of Q, K, V and of the upstream gradient", {.low = 1, .high = 1e6, .quick = "200"});
  o.require([&k] { return *std::max_element(k.d_k.begin(), k.d_k.end()) * k.tokens <= 1 << 27; },
            "--d-k times --tokens: more than 2^27 numbers in one tensor");
}

// One number per draw. "Unit": divided by sqrt(d_v), the size of the upstream gradient that a weight feels.
enum Metric {
  max_weight, row_max, row_entropy, entropy_seed, grad_q, grad_k, grad_q_unit, grad_k_unit, grad_scores_unit, jacobian,
  jacobian_median, jacobian_log10, dead_3, dead_6, zero_share, score_variance,
  jacobian_trace, query_median, query_top10, query_gini, metrics
};
constexpr std::array<const char*, metrics> names = {
  "max_weight", "row_max", "entropy", "entropy_seed", "grad_q", "grad_k", "grad_q_unit", "grad_k_unit",
  "grad_scores_unit", "jacobian", "jacobian_median", "jacobian_log10", "dead_1e-3", "dead_1e-6", "zero_rows",
  "score_variance",
  "jacobian_trace",   // mean over rows of 1 - sum p^2
  "grad_q_median",    // median over queries of the norm of dL/dq, over sqrt(d_v)
  "grad_q_top10",     // what the tenth of the queries with the largest gradients has of the sum of squares
  "grad_q_gini",      // how unequal the squares are: 0 equal, towards 1 one query has all
};
using Measures = std::array<double, metrics>;

double average(const std::vector<double>& x) {
  double sum = 0;
  for (double v : x) sum += v;
  return sum / double(x.size());
}

double middle(std::vector<double> x) {
  const auto half = x.begin() + std::ptrdiff_t(x.size() / 2);
  std::nth_element(x.begin(), half, x.end());
  return x.size() % 2 ? *half : (*half + *std::max_element(x.begin(), half)) / 2;
}

// The norm of a vector; of a matrix, from the norms of its rows.
double whole(const std::vector<double>& parts) {
  double squares = 0;
  for (double x : parts) squares += x * x;
  return std::sqrt(squares);
}

double sample_variance(std::span<const double> x) {
  double mean = 0, squares = 0;
  for (double v : x) mean += v / double(x.size());
  for (double v : x) squares += (v - mean) * (v - mean);
  return squares / double(x.size() - 1);
}

// L = sum(output * G) for one draw; G is the cotangent of the output.
Measures measure(const Tensor& Q, const Tensor& K, const Tensor& V, const Tensor& G, bool scaled) {
  const auto [output, weights, scores] = surgeon::attention(Q, K, V, {.scale = scaled, .return_weights = true});
  const auto [dQ, dK, dS] = grad(output, {Q, K, scores}, {.cotangent = G});
  const NoRecord pause;
  const double unit = 1 / std::sqrt(double(V.shape(-1)));
  // The Jacobian at the scores themselves, in float64: a row whose float32 weights have rounded to 0 and 1 still has
  // its true norm, and a logarithm. What float32 makes of such a row is what zero_rows counts.
  const Tensor exact_scores = scores.to(Dtype::float64);
  const Tensor exact = softmax(exact_scores);
  const std::vector<double> norms = softmax_jacobian_norm(exact), winners = largest(weights);
  std::vector<double> logs = norms, queries = row_norms(dQ);
  for (double& x : logs) x = std::log10(x);
  Measures m;
  m[max_weight] = *std::max_element(winners.begin(), winners.end());
  m[row_max] = average(winners);
  m[row_entropy] = average(entropy(weights));
  m[entropy_seed] = average(entropy(weights, 1e-9));
  m[grad_q] = whole(queries);
  m[grad_k] = norm(dK);
  m[grad_q_unit] = m[grad_q] * unit;
  m[grad_k_unit] = m[grad_k] * unit;
  m[grad_scores_unit] = norm(dS) * unit;
  m[jacobian] = average(norms);
  m[jacobian_median] = middle(norms);
  m[jacobian_log10] = average(logs);
  m[dead_3] = share_below(norms, 1e-3);
  m[dead_6] = share_below(norms, 1e-6);
  m[zero_share] = zero_rows(dS);
  m[score_variance] = sample_variance(exact_scores.values<double>());
  m[jacobian_trace] = average(softmax_jacobian_trace(exact));
  m[query_median] = middle(queries) * unit;
  for (double& x : queries) x *= x;
  m[query_top10] = top_share(queries);
  m[query_gini] = gini(queries);
  return m;
}

// The density at 0 of the gap between the two largest of n standard normals, n (n-1) integral phi^2 Phi^(n-2):
// without scaling, E[1 - sum p^2] -> gap_density(n) / sqrt(d_k) for large d_k.
double gap_density(std::int64_t n) {
  double sum = 0;
  constexpr double step = 1e-3;
  for (double x = -9; x <= 9; x += step) {
    const double phi = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi),
                 Phi = std::erfc(-x / std::numbers::sqrt2) / 2;
    sum += phi * phi * std::pow(Phi, double(n - 2)) * step;
  }
  return double(n) * double(n - 1) * sum;
}

struct Cell {
  std::int64_t d_k;
  bool scaled;
  std::array<Statistics, metrics> of;
  double rms_query = 0;   // of grad_q_unit
};

Row theory(const Statistics& s, double predicted) {
  return {{"theory", predicted}, {"z", (s.mean - predicted) / s.se}};
}

using Draws = std::vector<std::array<Measures, 2>>;   // unscaled, scaled

Draws draw_all(Lab& lab, const Knobs& k, std::int64_t d_k) {
  Draws draws(static_cast<std::size_t>(k.seeds));
  lab.for_each(k.seeds, "scaling: d_k = " + std::to_string(d_k), [&](std::int64_t i) {
    Rng rng = lab.rng(std::uint64_t(d_k) << 32 | std::uint64_t(i));   // a draw depends on its d_k and number alone
    const Shape shape = {1, k.tokens, d_k};
    const Tensor Q = randn(shape, rng, lab.dtype()), K = randn(shape, rng, lab.dtype());
    const Tensor V = randn(shape, rng, lab.dtype()), G = randn(shape, rng, lab.dtype());
    for (bool scaled : {false, true}) draws[std::size_t(i)][scaled] = measure(Q, K, V, G, scaled);
  });
  return draws;
}

Cell summed_up(Lab& lab, const Knobs& k, const Draws& draws, std::int64_t d_k, bool scaled) {
  Cell cell{d_k, scaled, {}};
  std::vector<double> values(draws.size());
  for (std::size_t m = 0; m < metrics; ++m) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = draws[i][scaled][m];
    const Statistics& s = cell.of[m] = statistics(values);
    Row row = Row{{"d_k", d_k}, {"scaled", scaled}, {"metric", names[m]}} + s;
    if (m == score_variance) row = row + theory(s, scaled ? 1 : double(d_k));
    if (m == jacobian_trace && !scaled) row = row + theory(s, gap_density(k.tokens) / std::sqrt(double(d_k)));
    lab.row(row);
    if (m == grad_q_unit) cell.rms_query = whole(values) / std::sqrt(double(values.size()));
  }
  return cell;
}

std::vector<Cell> measure_all(Lab& lab, const Knobs& k) {
  std::vector<Cell> cells;
  for (std::int64_t d_k : k.d_k) {
    const Draws draws = draw_all(lab, k, d_k);
    for (bool scaled : {false, true}) cells.push_back(summed_up(lab, k, draws, d_k, scaled));
  }
  return cells;
}

// ---- For the reader ------------------------------------------------------------------------------------------------
std::string cell_name(const Cell& c) { return (c.scaled ? "scaled    " : "unscaled  ") + std::to_string(c.d_k); }
std::string with_error(const Statistics& s) { return surgeon::with_error(s.mean, s.se); }

std::vector<const Cell*> by_scale(const std::vector<Cell>& cells, bool scaled) {
  std::vector<const Cell*> some;
  for (const Cell& c : cells)
    if (c.scaled == scaled) some.push_back(&c);
  std::sort(some.begin(), some.end(), [](const Cell* a, const Cell* b) { return a->d_k < b->d_k; });
  return some;
}

void show_tables(Lab& lab, const std::vector<Cell>& cells) {
  Table forward{"What enters softmax and what leaves it; in brackets the standard error of the last digit",
                {"          d_k", "score variance", "largest weight", "entropy", "zero rows"}, {}};
  Table backward{
      "Gradients per unit of upstream gradient. J: softmax's Jacobian; median: of rows; top 10%: share of the "
      "squared gradient that a tenth of the queries has",
      {"          d_k", "|J| mean", "|J| median", "|J|<1e-6", "dQ mean", "dQ median", "top 10%"},
      {}};
  for (bool scaled : {false, true})
    for (const Cell* c : by_scale(cells, scaled)) {
      forward.rows.push_back({cell_name(*c), with_error(c->of[score_variance]), with_error(c->of[max_weight]),
                              with_error(c->of[row_entropy]), with_error(c->of[zero_share])});
      backward.rows.push_back({cell_name(*c), with_error(c->of[jacobian]), number(c->of[jacobian_median].median, 2),
                               with_error(c->of[dead_6]), with_error(c->of[grad_q_unit]),
                               number(c->of[query_median].median, 2), with_error(c->of[query_top10])});
    }
  lab.show(forward);
  lab.show(backward);
}

using Line = double Statistics::*;

Series series_of(const std::vector<Cell>& cells, bool scaled, Metric m, const std::string& name, bool band,
                 Line line = &Statistics::mean) {
  Series s{.name = name, .colour = scaled ? 0 : 1};
  for (const Cell* c : by_scale(cells, scaled)) {
    s.x.push_back(double(c->d_k));
    s.y.push_back(c->of[m].*line);
    if (!band) continue;
    s.low.push_back(c->of[m].p05);
    s.high.push_back(c->of[m].p95);
  }
  return s;
}

LineChart pair_of(const std::vector<Cell>& cells, Metric m, const std::string& title, const std::string& y_label) {
  return {.title = title,
          .x_label = "d_k",
          .y_label = y_label,
          .series = {series_of(cells, true, m, "scaled by 1/sqrt(d_k)", true),
                     series_of(cells, false, m, "unscaled", true)},
          .log_x = true};
}

LineChart four_of(const std::vector<Cell>& cells, Metric mean, Metric median, const std::string& title,
                  const std::string& y_label) {
  LineChart chart{.title = title, .x_label = "d_k", .y_label = y_label, .log_x = true, .log_y = true};
  for (bool scaled : {true, false}) {
    const std::string name = scaled ? "scaled: " : "unscaled: ";
    chart.series.push_back(series_of(cells, scaled, mean, name + "mean", false));
    Series typical = series_of(cells, scaled, median, name + "median row", true, &Statistics::median);
    typical.dashed = true;
    chart.series.push_back(typical);
  }
  return chart;
}

void draw(Lab& lab, const Knobs& k, const std::vector<Cell>& cells) {
  LineChart weight = pair_of(cells, max_weight, "Largest weight", "of all weights in a draw");
  weight.references = {{1.0, "saturated: 1.0"}};
  LineChart entropy = pair_of(cells, row_entropy, "Entropy of a row", "nats");
  entropy.references = {{std::log(double(k.tokens)), "uniform: ln " + std::to_string(k.tokens)}};
  lab.draw({.name = "saturation",
            .title = "Unscaled, softmax saturates as d_k grows (lines: means; bands: 5 to 95 % of draws)",
            .panels = {weight, entropy}});
  LineChart dead{.title = "Dead rows",
                 .x_label = "d_k",
                 .y_label = "share of rows",
                 .log_x = true,
                 .y_low = -0.03,
                 .y_high = 1.03};
  dead.series = {series_of(cells, false, dead_3, "unscaled: |J| < 1e-3", false),
                 series_of(cells, false, dead_6, "unscaled: |J| < 1e-6", false),
                 series_of(cells, false, zero_share, "unscaled: gradient exactly 0", false),
                 series_of(cells, true, dead_3, "scaled: |J| < 1e-3", false)};
  dead.series[1].colour = 4;
  dead.series[2].colour = 6;
  dead.series[3].dashed = true;
  lab.draw({.name = "gradients",
            .title = "What dies unscaled is the typical row, not the mean (bands: 5 to 95 % of draws)",
            .panels = {four_of(cells, jacobian, jacobian_median, "Softmax's Jacobian", "Frobenius norm"),
                       four_of(cells, grad_q_unit, query_median, "dL/dQ per upstream unit", "norm"), dead}});
}

double slope(const std::vector<const Cell*>& cells, const std::function<double(const Cell&)>& y) {
  double n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
  for (const Cell* c : cells) {
    const double lx = std::log(double(c->d_k)), ly = std::log(y(*c));
    n += 1, sx += lx, sy += ly, sxx += lx * lx, sxy += lx * ly;
  }
  return (n * sxy - sx * sy) / (n * sxx - sx * sx);
}

std::string change(double from, double to) {
  return std::string(to < from ? "falls from " : "grows from ") + number(from) + " to " + number(to);
}

void speak(Lab& lab, const Knobs& k, const std::vector<Cell>& cells) {
  const auto bare = by_scale(cells, false), scaled = by_scale(cells, true);
  const Cell &first = *bare.front(), &last = *bare.back(), &cure = *scaled.back();
  const std::string sizes = "d_k = " + std::to_string(last.d_k);
  const double trace = last.of[jacobian_trace].mean, predicted = gap_density(k.tokens) / std::sqrt(double(last.d_k));
  lab.say("Theory: the variance of q.k is d_k, measured " + with_error(last.of[score_variance]) + " unscaled and " +
          with_error(cure.of[score_variance]) + " scaled at " + sizes + ". 1 - sum p^2 approaches " +
          number(gap_density(k.tokens)) + "/sqrt(d_k) = " + number(predicted, 4) + " unscaled; measured " +
          surgeon::with_error(trace, last.of[jacobian_trace].se) + ".\n");
  if (first.d_k == last.d_k) {
    lab.verdict("At " + sizes + " the median row of softmax's Jacobian has norm " +
                number(last.of[jacobian_median].median) + " unscaled and " + number(cure.of[jacobian_median].median) +
                " scaled; the mean norm of dL/dQ is " + number(last.of[grad_q_unit].mean) + " and " +
                number(cure.of[grad_q_unit].mean) + " per upstream unit.");
    return;
  }
  const double rms_slope = slope(bare, [](const Cell& c) { return c.rms_query; });
  const double jacobian_slope = slope(bare, [](const Cell& c) { return c.of[jacobian].mean; });
  lab.result("slope_rms_grad_q_unscaled", rms_slope);
  lab.result("slope_mean_jacobian_unscaled", jacobian_slope);
  lab.result("slope_rms_grad_q_scaled", slope(scaled, [](const Cell& c) { return c.rms_query; }));
  lab.verdict("Unscaled, from d_k = " + std::to_string(first.d_k) + " to " + std::to_string(last.d_k) +
              ", softmax's Jacobian " + change(first.of[jacobian].mean, last.of[jacobian].mean) +
              " in the mean (slope " + fixed(jacobian_slope, 2) + " on log axes), and its median row " +
              change(first.of[jacobian_median].median, last.of[jacobian_median].median) + ": " +
              number(100 * last.of[dead_6].mean, 2) + " % of the rows are below 1e-6.");
  lab.verdict("But the mean norm of dL/dQ " + change(first.of[grad_q_unit].mean, last.of[grad_q_unit].mean) +
              " per upstream unit (slope of its RMS " + fixed(rms_slope, 2) +
              "; theory 1/4 for large d_k), while the median query's " +
              change(first.of[query_median].median, last.of[query_median].median) +
              ": the few undecided rows carry most of it (the top tenth has " +
              number(100 * last.of[query_top10].mean, 2) +
              " % of the squares), and unscaled dQ = dS K lacks the factor 1/sqrt(d_k). A global gradient norm reads "
              "healthy when most queries are dead.");
  lab.verdict("Scaled, the median row stays where it was: |J| = " + number(scaled.front()->of[jacobian_median].median) +
              " at d_k = " + std::to_string(first.d_k) + " and " + number(cure.of[jacobian_median].median) + " at " +
              std::to_string(last.d_k) + ".");
}

void run(Lab& lab, const Knobs& k) {
  const std::vector<Cell> cells = measure_all(lab, k);
  draw(lab, k, cells);
  show_tables(lab, cells);
  speak(lab, k, cells);
}

}  // namespace

Experiment scaling() {
  return {
      "scaling",
      "Why are scores divided by sqrt(d_k), and which gradients die without it?",
      "Varied: d_k, with and without the scale, over many draws of Q, K, V and the upstream gradient G from N(0,1), "
      "L = sum(output * G). Measured per draw: largest weight, entropy, variance of the scores, norms of dL/dQ, "
      "dL/dK and dL/dscores, softmax's Jacobian row by row (in float64, from the scores), the share of dead rows, "
      "how unequal the queries' gradients are; each as mean, standard error, median, geometric mean, 5th and 95th "
      "percentile. Look at mean and median together: they part ways.",
      {"surgeon scaling", "surgeon scaling --d-k 16:4096:x4 --seeds 2000 --json"},
      knobs<Knobs>(options, run)};
}

}  // namespace surgeon::experiments
