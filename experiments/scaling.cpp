// Part 3 of the notebook, and what it leaves out: what 1/sqrt(d_k) does to the scores, to softmax, and to gradients.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>

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
  o.add("--tokens", k.tokens, "number of queries and keys", {.low = 2, .high = 4096});
  o.add("--seeds", k.seeds, "random draws of Q, K, V and the upstream gradient",
        {.low = 1, .high = 1e6, .quick = "200"});
  o.require([&k] { return *std::max_element(k.d_k.begin(), k.d_k.end()) * k.tokens <= 1 << 27; },
            "--d-k times --tokens must be at most 2^27");
}

// What is measured of a draw. "Unit": divided by sqrt(d_v), the size of the upstream gradient that each query receives.
struct Measures {
  double max_weight, row_max, entropy, entropy_seed;
  double grad_q, grad_k, grad_q_unit, grad_k_unit, grad_scores_unit;
  double jacobian, jacobian_median, jacobian_log10, dead_3, dead_6, zero_rows, score_variance, jacobian_trace;
  double query_median, query_top10, query_gini;
};
using Metric = double Measures::*;

struct NamedMetric { const char* name; Metric metric; };
constexpr NamedMetric metrics[] = {
    {"max_weight", &Measures::max_weight},             // the largest of all weights
    {"row_max", &Measures::row_max},                   // the largest weight of a row, mean over rows
    {"entropy", &Measures::entropy},                   // nats, mean over rows
    {"entropy_seed", &Measures::entropy_seed},         // the same with 1e-9 inside the logarithm, as notebooks have it
    {"grad_q", &Measures::grad_q},                     // norm of dL/dQ
    {"grad_k", &Measures::grad_k},
    {"grad_q_unit", &Measures::grad_q_unit},
    {"grad_k_unit", &Measures::grad_k_unit},
    {"grad_scores_unit", &Measures::grad_scores_unit},
    {"jacobian", &Measures::jacobian},                 // Frobenius norm of softmax's Jacobian, mean over rows
    {"jacobian_median", &Measures::jacobian_median},   // its median over rows
    {"jacobian_log10", &Measures::jacobian_log10},     // the mean over rows of its logarithm
    {"dead_1e-3", &Measures::dead_3},                  // share of rows where it is below 1e-3
    {"dead_1e-6", &Measures::dead_6},
    {"zero_rows", &Measures::zero_rows},               // share of rows of dL/dscores that are exactly 0
    {"score_variance", &Measures::score_variance},
    {"jacobian_trace", &Measures::jacobian_trace},     // 1 - sum p^2, mean over rows
    {"grad_q_median", &Measures::query_median},        // median over queries of the norm of dL/dq, unit
    {"grad_q_top10", &Measures::query_top10},          // share of the sum of squares that a tenth of the queries has
    {"grad_q_gini", &Measures::query_gini},            // inequality of the squares: 0 when all are equal
};

double average(const std::vector<double>& x) {
  return std::accumulate(x.begin(), x.end(), 0.0) / double(x.size());
}

// The norm of a vector; of a matrix, from the norms of its rows.
double whole(const std::vector<double>& parts) {
  return std::sqrt(std::inner_product(parts.begin(), parts.end(), parts.begin(), 0.0));
}

double sample_variance(std::span<const double> x) {
  double mean = 0, squares = 0;
  for (double v : x) mean += v / double(x.size());
  for (double v : x) squares += (v - mean) * (v - mean);
  return squares / double(x.size() - 1);
}

// Query by query: its entropy, and the norm of dL/dq, unit.
struct Queries { std::vector<double> entropy = {}, gradient = {}; };

// L = sum(output * G) for one draw; G is the cotangent of the output. Fills `each`, if there is one.
Measures measure(const Tensor& Q, const Tensor& K, const Tensor& V, const Tensor& G, bool scaled, Queries* each) {
  const auto [output, weights, scores] = surgeon::attention(Q, K, V, {.scale = scaled, .return_weights = true});
  const auto [dQ, dK, dS] = grad(output, {Q, K, scores}, {.cotangent = G});
  const NoRecord pause;
  const double unit = 1 / std::sqrt(double(V.shape(-1)));
  // The Jacobian is taken at the scores, in float64: a row whose float32 weights have rounded to 0 and 1 still has its
  // true norm, and a logarithm. What becomes of such a row in float32 is what zero_rows counts.
  const Tensor exact_scores = scores.to(Dtype::float64);
  const Tensor exact = softmax(exact_scores);
  const std::vector<double> norms = softmax_jacobian_norm(exact), winners = largest(weights);
  const std::vector<double> queries = row_norms(dQ), entropies = entropy(weights);
  if (each) each->entropy = entropies;
  for (std::size_t i = 0; each && i < queries.size(); ++i) each->gradient.push_back(queries[i] * unit);
  std::vector<double> logs = norms, squares = queries;
  for (double& x : logs) x = std::log10(x);
  for (double& x : squares) x *= x;
  return {.max_weight = *std::max_element(winners.begin(), winners.end()),
          .row_max = average(winners),
          .entropy = average(entropies),
          .entropy_seed = average(entropy(weights, 1e-9)),
          .grad_q = whole(queries),
          .grad_k = norm(dK),
          .grad_q_unit = whole(queries) * unit,
          .grad_k_unit = norm(dK) * unit,
          .grad_scores_unit = norm(dS) * unit,
          .jacobian = average(norms),
          .jacobian_median = median(norms),
          .jacobian_log10 = average(logs),
          .dead_3 = share_below(norms, 1e-3),
          .dead_6 = share_below(norms, 1e-6),
          .zero_rows = zero_rows(dS),
          .score_variance = sample_variance(exact_scores.values<double>()),
          .jacobian_trace = average(softmax_jacobian_trace(exact)),
          .query_median = median(queries) * unit,
          .query_top10 = top_share(squares),
          .query_gini = gini(squares)};
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
  std::vector<Statistics> all = {};   // in the order of `metrics`
  double rms_query = 0;               // of grad_q_unit
  const Statistics& of(Metric metric) const {
    const auto found = std::find_if(std::begin(metrics), std::end(metrics), [&](const NamedMetric& m) {
      return m.metric == metric;
    });
    return all[std::size_t(found - std::begin(metrics))];
  }
};

Row theory(const Statistics& s, double predicted) {
  return {{"theory", predicted}, {"z", (s.mean - predicted) / s.se}};
}

template <class T> using Both = std::array<T, 2>;   // unscaled, scaled
struct Draws { std::vector<Both<Measures>> all; std::vector<Both<Queries>> some; };   // the first, query by query

constexpr std::int64_t most_queries = 20000;   // kept for the figures

Draws draw_all(Lab& lab, const Knobs& k, std::int64_t d_k) {
  const std::int64_t kept = std::clamp<std::int64_t>(most_queries / k.tokens, 1, k.seeds);
  Draws draws{std::vector<Both<Measures>>(static_cast<std::size_t>(k.seeds)),
              std::vector<Both<Queries>>(static_cast<std::size_t>(kept))};
  lab.for_each(k.seeds, "scaling: d_k = " + std::to_string(d_k), [&](std::int64_t i) {
    Rng rng = lab.rng(std::uint64_t(d_k) << 32 | std::uint64_t(i));   // a draw depends on its d_k and number alone
    const Shape shape = {1, k.tokens, d_k};
    const Tensor Q = randn(shape, rng, lab.dtype()), K = randn(shape, rng, lab.dtype());
    const Tensor V = randn(shape, rng, lab.dtype()), G = randn(shape, rng, lab.dtype());
    for (bool scaled : {false, true})
      draws.all[std::size_t(i)][scaled] =
          measure(Q, K, V, G, scaled, i < kept ? &draws.some[std::size_t(i)][scaled] : nullptr);
  });
  return draws;
}

Cell summed_up(Lab& lab, const Knobs& k, const Draws& draws, std::int64_t d_k, bool scaled) {
  Cell cell{d_k, scaled};
  std::vector<double> values(draws.all.size());
  for (const auto& [name, metric] : metrics) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = draws.all[i][scaled].*metric;
    const Statistics& s = cell.all.emplace_back(statistics(values));
    Row row = Row{{"d_k", d_k}, {"scaled", scaled}, {"metric", name}} + s;
    if (metric == &Measures::score_variance) row = row + theory(s, scaled ? 1 : double(d_k));
    if (metric == &Measures::jacobian_trace && !scaled)
      row = row + theory(s, gap_density(k.tokens) / std::sqrt(double(d_k)));
    lab.row(row);
    if (metric == &Measures::grad_q_unit) cell.rms_query = whole(values) / std::sqrt(double(values.size()));
  }
  return cell;
}

struct Measured { std::vector<Cell> cells = {}; Both<Queries> queries = {}; };   // queries: of the largest d_k

Measured measure_all(Lab& lab, const Knobs& k) {
  Measured result;
  for (std::int64_t d_k : k.d_k) {
    const Draws draws = draw_all(lab, k, d_k);
    for (bool scaled : {false, true}) result.cells.push_back(summed_up(lab, k, draws, d_k, scaled));
    if (d_k != *std::max_element(k.d_k.begin(), k.d_k.end())) continue;
    result.queries = {};
    for (const auto& both : draws.some)
      for (const bool scaled : {false, true})
        for (const auto part : {&Queries::entropy, &Queries::gradient}) {
          const std::vector<double>& more = both[scaled].*part;
          std::vector<double>& all = result.queries[scaled].*part;
          all.insert(all.end(), more.begin(), more.end());
        }
  }
  return result;
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
  Table forward{"Scores and weights (in brackets: standard error of the last digit)\n"
                "zero rows: share of rows whose score gradient is exactly 0",
                {"          d_k", "score variance", "largest weight", "entropy", "zero rows"}, {}};
  Table backward{"Gradients per unit of upstream gradient; |J|: norm of softmax's Jacobian\n"
                 "top 10%: share of the squared gradient that a tenth of the queries has",
                 {"          d_k", "mean |J|", "median", "|J|<1e-6", "mean dQ", "median", "top 10%"}, {}};
  for (bool scaled : {false, true})
    for (const Cell* c : by_scale(cells, scaled)) {
      const auto mean = [&](Metric metric) { return with_error(c->of(metric)); };
      const auto middle = [&](Metric metric) { return number(c->of(metric).median, 2); };
      forward.rows.push_back({cell_name(*c), mean(&Measures::score_variance), mean(&Measures::max_weight),
                              mean(&Measures::entropy), mean(&Measures::zero_rows)});
      backward.rows.push_back({cell_name(*c), mean(&Measures::jacobian), middle(&Measures::jacobian_median),
                               mean(&Measures::dead_6), mean(&Measures::grad_q_unit), middle(&Measures::query_median),
                               mean(&Measures::query_top10)});
    }
  lab.show(forward);
  lab.show(backward);
}

// ---- Figures -------------------------------------------------------------------------------------------------------
using Line = double Statistics::*;

struct Look {
  Line line = &Statistics::mean;
  bool band = false;      // 5 to 95 % of the draws
  bool dashed = false;
};

Series series_of(const std::vector<Cell>& cells, bool scaled, Metric metric, const std::string& name,
                 const Look& look = {}) {
  Series s{.name = name, .colour = scaled ? 0 : 1, .dashed = look.dashed};
  for (const Cell* c : by_scale(cells, scaled)) {
    s.x.push_back(double(c->d_k));
    s.y.push_back(c->of(metric).*look.line);
    if (!look.band) continue;
    s.low.push_back(c->of(metric).p05);
    s.high.push_back(c->of(metric).p95);
  }
  return s;
}

LineChart pair_of(const std::vector<Cell>& cells, Metric metric, const Text& title, const std::string& y_label) {
  return {.title = title,
          .x_label = typeset("d_k (Key Dimension)"),
          .y_label = y_label,
          .series = {series_of(cells, true, metric, "With Scaling", {.band = true}),
                     series_of(cells, false, metric, "Without Scaling", {.band = true})},
          .log_x = true};
}

LineChart four_of(const std::vector<Cell>& cells, Metric mean, Metric median, const std::string& title,
                  const std::string& y_label) {
  LineChart chart{.title = title, .x_label = typeset("d_k"), .y_label = y_label, .log_x = true, .log_y = true};
  for (bool scaled : {true, false}) {
    const std::string name = scaled ? "scaled: " : "unscaled: ";
    chart.series.push_back(series_of(cells, scaled, mean, name + "mean"));
    chart.series.push_back(series_of(cells, scaled, median, name + "median row",
                                     {.line = &Statistics::median, .band = true, .dashed = true}));
  }
  return chart;
}

LineChart dead_rows(const std::vector<Cell>& cells) {
  LineChart dead{.title = "Dead rows",
                 .x_label = typeset("d_k"),
                 .y_label = "share of rows",
                 .series = {series_of(cells, false, &Measures::dead_3, "unscaled: |J| < 0.001"),
                            series_of(cells, false, &Measures::dead_6, "unscaled: |J| < 10⁻⁶"),
                            series_of(cells, false, &Measures::zero_rows, "unscaled: gradient 0"),
                            series_of(cells, true, &Measures::dead_3, "scaled: |J| < 0.001", {.dashed = true})},
                 .log_x = true,
                 .y_low = 0,
                 .y_high = 1};
  dead.series[1].colour = 4;
  dead.series[2].colour = 6;
  return dead;
}

// Which queries have a gradient at all: its distribution, and beside it how sure each query is.
Figure queries_at(std::int64_t d_k, const Both<Queries>& queries) {
  static constexpr std::size_t most_points = 600;
  Histogram spread{.title = "Every query's gradient", .x_label = "norm of dL/dq", .y_label = "share of queries",
                   .log_x = true};
  Scatter sure{.title = "The surer a query, the less it learns", .x_label = "Entropy (nats)",
               .y_label = "norm of dL/dq", .log_x = true, .log_y = true};
  for (const bool scaled : {true, false}) {
    const auto& [entropy, gradient] = queries[scaled];
    const std::string name = scaled ? "With Scaling" : "Without Scaling";
    const auto first = [](const std::vector<double>& all) {
      return std::vector<double>(all.begin(), all.begin() + std::ptrdiff_t(std::min(all.size(), most_points)));
    };
    spread.samples.push_back({name, gradient, scaled ? 0 : 1});
    sure.series.push_back({.name = name, .x = first(entropy), .y = first(gradient), .colour = scaled ? 0 : 1});
  }
  return {.name = "queries", .title = typeset("d_k = " + std::to_string(d_k) + ", per unit of upstream gradient"),
          .panels = {spread, sure}};
}

void draw(Lab& lab, const Knobs& k, const Measured& measured) {
  const std::vector<Cell>& cells = measured.cells;
  LineChart weight =
      pair_of(cells, &Measures::max_weight, typeset("Softmax Saturation vs d_k"), "Max Attention Weight");
  weight.references = {{1.0, "Saturation (1.0)", 7}};
  LineChart entropy = pair_of(cells, &Measures::entropy, typeset("Attention Entropy vs d_k"), "Entropy (nats)");
  lab.draw(queries_at(*std::max_element(k.d_k.begin(), k.d_k.end()), measured.queries));
  entropy.references = {{std::log(double(k.tokens)), "uniform: ln " + std::to_string(k.tokens)}};
  lab.draw({.name = "saturation",
            .title = typeset("Softmax saturates without 1/√d_k (means; bands: 5 to 95 % of draws)"),
            .panels = {weight, entropy}});
  lab.draw({.name = "gradients",
            .title = typeset("Without 1/√d_k the typical row dies, not the mean (bands: 5 to 95 % of draws)"),
            .panels = {four_of(cells, &Measures::jacobian, &Measures::jacobian_median, "Softmax's Jacobian",
                               "Frobenius norm"),
                       four_of(cells, &Measures::grad_q_unit, &Measures::query_median,
                               "dL/dQ per unit of upstream gradient", "norm"),
                       dead_rows(cells)}});
}

// ---- In words ------------------------------------------------------------------------------------------------------
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

// A slope needs two sizes: nan.
void show_theory(Lab& lab, const Knobs& k, const std::vector<const Cell*>& bare, const Cell& scaled) {
  const Cell& last = *bare.back();
  const double limit = gap_density(k.tokens) / std::sqrt(double(last.d_k));
  const double rms_slope = slope(bare, [](const Cell& c) { return c.rms_query; });
  Table table{"At d_k = " + std::to_string(last.d_k),
              {"", "theory", "measured"},
              {{"variance of a score, unscaled", std::to_string(last.d_k),
                with_error(last.of(&Measures::score_variance))},
               {"the same, scaled", "1", with_error(scaled.of(&Measures::score_variance))},
               {"1 - sum of p^2, unscaled, large d_k", number(limit, 4),
                with_error(last.of(&Measures::jacobian_trace))}}};
  if (bare.front()->d_k != last.d_k)
    table.rows.push_back({"log-log slope of RMS |dQ|, unscaled, large d_k", "0.25", fixed(rms_slope, 2)});
  lab.show(table);
}

void judge_one_size(Lab& lab, const Cell& bare, const Cell& scaled) {
  const auto both = [&](Metric metric, Line line) {
    return number(bare.of(metric).*line) + " unscaled and " + number(scaled.of(metric).*line) + " scaled";
  };
  lab.verdict("At d_k = " + std::to_string(bare.d_k) + " the median row's Jacobian is " +
              both(&Measures::jacobian_median, &Statistics::median) + ".");
  lab.verdict("The mean norm of dL/dQ is " + both(&Measures::grad_q_unit, &Statistics::mean) + ".");
}

void judge(Lab& lab, const std::vector<const Cell*>& bare, const std::vector<const Cell*>& scaled) {
  const Cell &first = *bare.front(), &last = *bare.back();
  const double rms_slope = slope(bare, [](const Cell& c) { return c.rms_query; });
  const double jacobian_slope = slope(bare, [](const Cell& c) { return c.of(&Measures::jacobian).mean; });
  lab.result("slope_rms_grad_q_unscaled", rms_slope);
  lab.result("slope_mean_jacobian_unscaled", jacobian_slope);
  lab.result("slope_rms_grad_q_scaled", slope(scaled, [](const Cell& c) { return c.rms_query; }));
  const auto cured = [](const Cell* c) { return c->of(&Measures::jacobian_median).median; };
  const auto moves = [&](Metric metric, Line line) { return change(first.of(metric).*line, last.of(metric).*line); };
  lab.verdict("Unscaled, d_k " + std::to_string(first.d_k) + " to " + std::to_string(last.d_k) +
              ": softmax's Jacobian in the median row " + moves(&Measures::jacobian_median, &Statistics::median) +
              ", and " + number(100 * last.of(&Measures::dead_6).mean, 2) + " % of rows end below 1e-6.");
  lab.verdict("The mean norm of dL/dQ " + moves(&Measures::grad_q_unit, &Statistics::mean) +
              ", the median query's " + moves(&Measures::query_median, &Statistics::median) + ".");
  lab.verdict("A tenth of the queries has " + number(100 * last.of(&Measures::query_top10).mean, 2) +
              " % of the squared gradient, so a global norm does not show the dead ones.");
  lab.verdict("Scaled, the median row's Jacobian stays: " + number(cured(scaled.front())) + " and " +
              number(cured(scaled.back())) + ".");
}

void run(Lab& lab, const Knobs& k) {
  const Measured measured = measure_all(lab, k);
  draw(lab, k, measured);
  show_tables(lab, measured.cells);
  const auto bare = by_scale(measured.cells, false), scaled = by_scale(measured.cells, true);
  show_theory(lab, k, bare, *scaled.back());
  if (bare.front()->d_k == bare.back()->d_k) judge_one_size(lab, *bare.back(), *scaled.back());
  else judge(lab, bare, scaled);
}

}  // namespace

Experiment scaling() {
  return {
      "scaling",
      "Why are scores divided by sqrt(d_k), and which gradients die without it?",
      "Varied: d_k, with and without the scale, over many random draws of Q, K, V and the upstream gradient G, all "
      "from N(0,1); L = sum(output * G). Measured for each draw: largest weight, entropy (nats), variance of the "
      "scores; norms of dL/dQ, dL/dK and dL/dscores, as they are and per unit of upstream gradient, that is divided "
      "by sqrt(d_v); softmax's Jacobian row by row; the share of dead rows; how unequal the queries' gradients are. "
      "grad_q_median is the median over queries of the norm of dL/dq, per unit. Each is given as mean, standard error, "
      "median, geometric mean, 5th and 95th percentile. Look at mean and median together: they part ways.",
      {"surgeon scaling", "surgeon scaling --d-k 16:4096:x4 --seeds 2000 --json"},
      knobs<Knobs>(options, run)};
}

}  // namespace surgeon::experiments
