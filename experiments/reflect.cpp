// Part 6 of the notebook: its four questions, answered by measurement.
#include <algorithm>
#include <cmath>

#include "experiments/figures.hpp"
#include "experiments/lab.hpp"
#include "framework/diagnostics.hpp"
#include "layers/layers.hpp"

namespace surgeon::experiments {
namespace {

struct Knobs {
  std::vector<std::int64_t> d_k = {16, 64, 256, 1024, 4096, 16384};
  std::int64_t tokens = 10, seeds = 500, d_model = 64, heads = 8;
};

void options(Options& o, Knobs& k) {
  o.add("--d-k", k.d_k, "sizes of queries and keys, for questions 1 and 2", {.low = 1, .high = 1 << 20});
  o.add("--tokens", k.tokens, "number of queries and keys", {.low = 2, .high = 512});
  o.add("--seeds", k.seeds, "number of random draws; question 4 uses at most 100",
        {.low = 1, .high = 1e6, .quick = "100"});
  o.add("--d-model", k.d_model, "width of the model, for questions 3 and 4", {.low = 2, .high = 1024});
  o.add("--heads", k.heads, "number of heads, for questions 3 and 4; must divide --d-model", {.low = 2, .high = 64});
  o.require([&k] { return k.d_model % k.heads == 0; }, "--heads must divide --d-model");
}

double Phi(double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; }

// Each question has its own streams of the seed, so that none shares draws with another.
std::uint64_t stream(int question, std::int64_t size, std::int64_t seed) {
  return std::uint64_t(question) << 60 | std::uint64_t(size) << 32 | std::uint64_t(seed);
}

// ---- 1 and 2: the variance of the scores; a fill of -100 instead of -inf -------------------------------------------
struct Fill { bool scaled; Dtype dtype; double value; };
const std::vector<Fill> fills = {{false, Dtype::float32, -100},      {true, Dtype::float32, -100},
                                 {false, Dtype::float64, -100},      {true, Dtype::float64, -100},
                                 {false, Dtype::float32, -INFINITY}, {true, Dtype::float32, -INFINITY},
                                 {false, Dtype::float64, -INFINITY}, {true, Dtype::float64, -INFINITY}};

// One draw: the variance of its scores, and for each fill the weight on forbidden keys, in row 0 and in the mean row.
struct Leaks { double variance = 0; std::vector<double> first = {}, mean = {}; };

Leaks leaks_of(const Tensor& Q, const Tensor& K, std::int64_t d_k) {
  const NoRecord pause;
  const std::int64_t T = Q.shape(0);
  const Tensor products = matmul(Q, K, {.transpose_b = true}), forbidden = !causal_mask(T);
  Leaks leaks{.variance = var(products).item()};
  for (const Fill& f : fills) {
    const Tensor scores = (f.scaled ? products / std::sqrt(double(d_k)) : products).to(f.dtype);
    const Tensor weights = softmax(masked_fill(scores, forbidden, f.value));
    const Tensor leaked = sum(where(forbidden, weights, zeros_like(weights)).to(Dtype::float64), -1);
    leaks.first.push_back(leaked.at({0}));
    leaks.mean.push_back(mean(leaked).item());
  }
  return leaks;
}

std::vector<double> column(const std::vector<Leaks>& draws, const std::function<double(const Leaks&)>& f) {
  std::vector<double> values;
  for (const Leaks& l : draws) values.push_back(f(l));
  return values;
}

// All draws for one d_k, summed up.
struct Summary {
  std::int64_t d_k;
  Statistics variance;
  std::vector<Statistics> first, mean;   // by fill
  double theory;                         // the weight that -100 leaks in row 0, unscaled
};

Summary summary_of(Lab& lab, const Knobs& k, std::int64_t d_k) {
  std::vector<Leaks> draws(static_cast<std::size_t>(k.seeds));
  lab.for_each(k.seeds, "reflect: d_k = " + std::to_string(d_k), [&](std::int64_t i) {
    Rng rng = lab.rng(stream(1, d_k, i));
    const Tensor Q = randn({k.tokens, d_k}, rng, Dtype::float64), K = randn({k.tokens, d_k}, rng, Dtype::float64);
    draws[std::size_t(i)] = leaks_of(Q, K, d_k);
  });
  Summary s{.d_k = d_k, .variance = statistics(column(draws, [](const Leaks& l) { return l.variance; })),
            .first = {}, .mean = {},
            .theory = Phi((std::log(double(k.tokens - 1)) - 100) / std::sqrt(double(d_k)))};
  for (std::size_t f = 0; f < fills.size(); ++f) {
    s.first.push_back(statistics(column(draws, [f](const Leaks& l) { return l.first[f]; })));
    s.mean.push_back(statistics(column(draws, [f](const Leaks& l) { return l.mean[f]; })));
  }
  return s;
}

double variance_z(const Summary& s) { return (s.variance.mean - double(s.d_k)) / s.variance.se; }

void write_rows(Lab& lab, const Knobs& k, const Summary& s) {
  lab.row(Row{{"question", std::int64_t{1}}, {"d_k", s.d_k}, {"metric", "score_variance"}} + s.variance +
          Row{{"theory", double(s.d_k)}, {"z", variance_z(s)}});
  for (std::size_t f = 0; f < fills.size(); ++f) {
    const Fill& fill = fills[f];
    const Row name = {{"question", std::int64_t{2}},
                      {"d_k", s.d_k},
                      {"scaled", fill.scaled},
                      {"dtype", to_string(fill.dtype)},
                      {"fill", std::isinf(fill.value) ? std::string("-inf") : number(fill.value)}};
    Row first = name + Row{{"metric", "leak_first_row"}} + s.first[f];
    if (!fill.scaled && !std::isinf(fill.value)) {
      // An event rarer than 1 / seeds may not occur in any draw; then the theory's own standard error counts.
      const double error = std::max(s.first[f].se, std::sqrt(s.theory * (1 - s.theory) / double(k.seeds)));
      first = first + Row{{"theory", s.theory}, {"z", (s.first[f].mean - s.theory) / error}};
    }
    lab.row(first);
    lab.row(name + Row{{"metric", "leak_mean_row"}} + s.mean[f]);
  }
}

void show_variances(Lab& lab, const std::vector<Summary>& all) {
  Table table{"1. Variance of the unscaled scores (in brackets: standard error)",
              {"d_k", "variance", "theory", "z"},
              {}};
  for (const Summary& s : all)
    table.rows.push_back({std::to_string(s.d_k), with_error(s.variance.mean, s.variance.se), std::to_string(s.d_k),
                          fixed(variance_z(s), 1)});
  lab.show(table);
  const Summary& last = all.back();
  lab.verdict("1. The variance of a score is d_k: " + with_error(last.variance.mean, last.variance.se) + " at d_k = " +
              std::to_string(last.d_k) + ".");
}

void show_leaks(Lab& lab, const std::vector<Summary>& all) {
  Table table{"2. Weight on forbidden keys in the first row of a causal mask that fills with -100",
              {"d_k", "unscaled, 32 bit", "theory", "scaled, 32 bit", "scaled, 64 bit", "with -inf"},
              {}};
  double infinite = 0, worst = 0, worst_scaled = 0;
  for (const Summary& s : all) {
    table.rows.push_back({std::to_string(s.d_k), with_error(s.first[0].mean, s.first[0].se),
                          s.theory < 1e-9 ? "< 1e-9" : number(s.theory, 2), number(s.first[1].mean, 2),
                          number(s.first[3].mean, 2), number(s.first[4].mean)});
    worst = std::max(worst, s.first[0].mean), worst_scaled = std::max(worst_scaled, s.first[1].mean);
    for (std::size_t f = 0; f < fills.size(); ++f)
      if (std::isinf(fills[f].value)) infinite = std::max({infinite, s.mean[f].p95, s.mean[f].mean});
  }
  lab.show(table);
  lab.check(infinite == 0, "a fill of -inf leaks exactly 0, for every d_k, scale and dtype");
  lab.verdict("2. A fill of -100 leaks up to " + number(100 * worst, 2) + " % of the first row's weight unscaled, " +
              number(worst_scaled, 1) + " scaled; -inf leaks 0.");
}

void draw_scores_and_fills(Lab& lab, const std::vector<Summary>& all) {
  const auto theory = [](const char* name) {
    return Series{.name = typeset(name), .colour = 6, .dashed = true, .points = false};
  };
  Series measured{.name = "measured", .colour = 0}, line = theory("theory: d_k");
  Series bare{.name = "unscaled, measured", .colour = 1}, predicted = theory("theory: Φ((ln(n−1) − 100) / √d_k)");
  for (const Summary& s : all) {
    for (Series* series : {&measured, &line, &bare, &predicted}) series->x.push_back(double(s.d_k));
    measured.y.push_back(s.variance.mean);
    measured.low.push_back(s.variance.p05), measured.high.push_back(s.variance.p95);
    line.y.push_back(double(s.d_k));
    bare.y.push_back(s.first[0].mean);
    bare.low.push_back(std::max(0.0, s.first[0].mean - 2 * s.first[0].se));
    bare.high.push_back(s.first[0].mean + 2 * s.first[0].se);
    predicted.y.push_back(s.theory);
  }
  lab.draw({.name = "scores_and_fills",
            .panels = {LineChart{.title = "1. Variance of the scores (band: 5 to 95 %)",
                                 .x_label = typeset("d_k (Key Dimension)"),
                                 .y_label = "variance",
                                 .series = {line, measured},
                                 .log_x = true,
                                 .log_y = true},
                       LineChart{.title = "2. Leak of a −100 fill (band: 2 se)",
                                 .x_label = typeset("d_k (Key Dimension)"),
                                 .y_label = "leaked weight, first row",
                                 .series = {predicted, bare},
                                 .log_x = true}}});
}

void scores_and_fills(Lab& lab, const Knobs& k) {
  std::vector<Summary> all;
  for (const std::int64_t d_k : k.d_k) write_rows(lab, k, all.emplace_back(summary_of(lab, k, d_k)));
  draw_scores_and_fills(lab, all);
  show_variances(lab, all);
  show_leaks(lab, all);
}

// ---- 3: rank -------------------------------------------------------------------------------------------------------
// The sum over h heads of A_h X W_h: X [n, d] of rank r; each head mixes rows by its own attention A_h [n, n], then
// columns by its own W_h [d, d].
Tensor heads_of(std::int64_t h, std::int64_t n, std::int64_t r, std::int64_t d, std::int64_t d_k, Rng& rng) {
  const auto normal = [&](std::int64_t rows, std::int64_t columns) {
    return randn({rows, columns}, rng, Dtype::float64);
  };
  const auto one = [](const Tensor& x) { return reshape(x, {1, x.shape(0), x.shape(1)}); };
  const Tensor X = matmul(normal(n, r), normal(r, d)) / std::sqrt(double(r));
  Tensor output = zeros({n, d}, Dtype::float64);
  for (std::int64_t i = 0; i < h; ++i) {
    const Tensor Q = matmul(X, normal(d, d_k)) / std::sqrt(double(d)),
                 K = matmul(X, normal(d, d_k)) / std::sqrt(double(d));
    const Tensor V = matmul(X, normal(d, d)) / std::sqrt(double(d));
    output = output + reshape(surgeon::attention(one(Q), one(K), one(V)).output, {n, d});
  }
  return output;
}

void ranks(Lab& lab, const Knobs& k) {
  constexpr std::int64_t n = 32, r = 4;
  const std::int64_t d = k.d_model;
  Table table{"3. Rank of the output: " + std::to_string(n) + " tokens, width " + std::to_string(d) + ", V of rank " +
                  std::to_string(r),
              {"heads", "rank", "theory", "effective rank"},
              {}};
  bool as_predicted = true;
  std::int64_t most_heads = 0, most_rank = 0;
  for (std::int64_t h = 1; h <= k.heads; h *= 2) {
    const NoRecord pause;
    Rng rng = lab.rng(stream(3, h, 0));
    const Tensor output = heads_of(h, n, r, d, d / k.heads, rng);
    const std::int64_t rank = matrix_rank(output), theory = std::min({n, d, h * r});
    const double effective = effective_rank(singular_values(output));
    as_predicted = as_predicted && rank == theory;
    most_heads = h, most_rank = rank;
    const Row name{{"question", std::int64_t{3}}, {"heads", h}};
    lab.row(name + Row{{"metric", "output_rank"}, {"mean", double(rank)}, {"theory", double(theory)}});
    lab.row(name + Row{{"metric", "effective_rank"}, {"mean", effective}});
    table.rows.push_back({std::to_string(h), std::to_string(rank), std::to_string(theory), fixed(effective, 1)});
  }
  lab.show(table);
  lab.check(as_predicted, "the rank of the output is min(tokens, width, heads * rank of V)");
  lab.verdict("3. One head has the rank of V, " + std::to_string(r) + "; " + std::to_string(most_heads) +
              " heads reach " + std::to_string(most_rank) + ".");
}

// ---- 4: distance between heads -------------------------------------------------------------------------------------
// Total variation between the rows of two heads, half the sum of |p - q|, mean over rows: 0 if they are the same, 1 if
// they have nothing in common. Without q: from uniform weights.
double distance(const double* p, const double* q, std::int64_t T) {
  double sum = 0;
  for (std::int64_t i = 0; i < T * T; ++i) sum += std::abs(p[i] - (q ? q[i] : 1 / double(T)));
  return sum / 2 / double(T);
}

// In one fresh model.
struct Distances {
  std::vector<std::vector<double>> heads;    // [H, H]
  double between = 0, from_uniform = 0;      // means over pairs, over heads
};

Distances distances_in(const MultiHeadAttention& mha, const Tensor& x, std::int64_t H) {
  const Tensor weights = mha(x, {.return_weights = true}).weights;
  const std::int64_t T = x.shape(1);
  const double* w = weights.values<double>().data();
  Distances d{.heads = std::vector(std::size_t(H), std::vector(std::size_t(H), 0.0))};
  for (std::int64_t a = 0; a < H; ++a) {
    d.from_uniform += distance(w + a * T * T, nullptr, T) / double(H);
    for (std::int64_t b = 0; b < H; ++b) {
      const double tv = d.heads[std::size_t(a)][std::size_t(b)] = distance(w + a * T * T, w + b * T * T, T);
      if (a < b) d.between += tv / double(H * (H - 1) / 2);
    }
  }
  return d;
}

void draw_distances(Lab& lab, const std::vector<std::vector<double>>& heads) {
  double largest = 0;
  for (const auto& row : heads) largest = std::max(largest, *std::max_element(row.begin(), row.end()));
  lab.draw({.name = "head_distances",
            .title = "4. How different the heads' patterns are",
            .panels = {Heatmap{.x_label = "Head", .y_label = "Head", .bar_label = "Total variation", .values = heads,
                               .low = 0, .high = std::ceil(largest * 20) / 20}}});
}

void distances(Lab& lab, const Knobs& k) {
  const std::int64_t seeds = std::min<std::int64_t>(k.seeds, 100);
  std::vector<double> between, from_uniform;
  for (std::int64_t s = 0; s < seeds; ++s) {
    const NoRecord pause;
    Rng rng = lab.rng(stream(4, 0, s));
    const MultiHeadAttention mha(k.d_model, k.heads, rng, Dtype::float64);
    const Distances d = distances_in(mha, randn({1, k.tokens, k.d_model}, rng, Dtype::float64), k.heads);
    if (s == 0) draw_distances(lab, d.heads);
    between.push_back(d.between), from_uniform.push_back(d.from_uniform);
  }
  const Statistics pair = statistics(between), flat = statistics(from_uniform);
  const Row name{{"question", std::int64_t{4}}, {"heads", k.heads}};
  lab.row(name + Row{{"metric", "distance_between_heads"}} + pair);
  lab.row(name + Row{{"metric", "distance_from_uniform"}} + flat);
  lab.show({"4. Total variation between rows of weights, 0 to 1, in " + std::to_string(seeds) + " untrained models",
            {"", "mean", "5 %", "95 %"},
            {{"between two heads", with_error(pair.mean, pair.se), number(pair.p05), number(pair.p95)},
             {"from uniform weights", with_error(flat.mean, flat.se), number(flat.p05), number(flat.p95)}}});
  lab.verdict("4. Untrained heads are " + number(pair.mean / flat.mean, 3) +
              " times as far from each other as from uniform weights, as independent ones are (1.41).");
}

void run(Lab& lab, const Knobs& k) {
  scores_and_fills(lab, k);
  ranks(lab, k);
  distances(lab, k);
}

}  // namespace

Experiment reflect() {
  return {"reflect",
          "Why sqrt(d_k), why -inf, why several heads, and do heads differ?",
          "Four questions, each measured beside its theory: (1) the variance of the scores, against d_k; (2) the "
          "weight that a mask with -100 leaks to forbidden keys and one with -inf does not, scaled and unscaled, in "
          "float32 and float64; (3) the rank of the output, against that of V, for one head and for several; (4) the "
          "distance between the heads' patterns.",
          {"surgeon reflect", "surgeon reflect --d-k 1024,16384 --seeds 2000"},
          knobs<Knobs>(options, run)};
}

}  // namespace surgeon::experiments
