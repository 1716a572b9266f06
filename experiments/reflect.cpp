// Part 6 of the notebook: its four questions, answered by measurement.
#include <algorithm>
#include <cmath>
#include <numeric>

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
  o.add("--d-k", k.d_k, "sizes of queries and keys, questions 1 and 2", {.low = 1, .high = 1 << 20});
  o.add("--tokens", k.tokens, "queries and keys in a draw", {.low = 2, .high = 512});
  o.add("--seeds", k.seeds, "draws", {.low = 1, .high = 1e6, .quick = "100"});
  o.add("--d-model", k.d_model, "width of the model, questions 3 and 4", {.low = 2, .high = 1024});
  o.add("--heads", k.heads, "heads; they divide --d-model", {.low = 2, .high = 64});
  o.require([&k] { return k.d_model % k.heads == 0; }, "--heads must divide --d-model");
}

double Phi(double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; }

// Streams of the seed, so that no question shares its draws with another.
std::uint64_t stream(int question, std::int64_t size, std::int64_t seed) {
  return std::uint64_t(question) << 60 | std::uint64_t(size) << 32 | std::uint64_t(seed);
}

// ---- 1 and 2: the variance of the scores; a fill of -100 instead of -inf -------------------------------------------
struct Fill { bool scaled; Dtype dtype; double value; };
const std::vector<Fill> fills = {{false, Dtype::float32, -100},      {true, Dtype::float32, -100},
                                 {false, Dtype::float64, -100},      {true, Dtype::float64, -100},
                                 {false, Dtype::float32, -INFINITY}, {true, Dtype::float32, -INFINITY},
                                 {false, Dtype::float64, -INFINITY}, {true, Dtype::float64, -INFINITY}};

// Of one draw: the variance of its scores; for each fill the weight on forbidden keys, of row 0 and of the mean row.
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

void scores_and_fills(Lab& lab, const Knobs& k) {
  Table variances{"1. Variance of the unscaled scores beside d_k; in brackets the standard error of the last digit",
                  {"d_k", "variance", "theory", "z"},
                  {}};
  Table leaks{"2. Weight that a causal mask with -100 for -inf leaks to forbidden keys, first row",
              {"d_k", "unscaled, 32 bit", "theory", "scaled, 32 bit", "scaled, 64 bit", "-inf"},
              {}};
  Series measured{.name = "measured"}, line{.name = "theory: d_k", .colour = 6, .dashed = true, .points = false};
  Series bare{.name = "unscaled, measured", .colour = 1},
      predicted{.name = "theory: Phi((ln(n-1) - 100) / sqrt(d_k))", .colour = 6, .dashed = true, .points = false};
  double infinite = 0, worst = 0, worst_scaled = 0;
  for (std::int64_t d_k : k.d_k) {
    std::vector<Leaks> draws(static_cast<std::size_t>(k.seeds));
    lab.for_each(k.seeds, "reflect: d_k = " + std::to_string(d_k), [&](std::int64_t i) {
      Rng rng = lab.rng(stream(1, d_k, i));
      const Tensor Q = randn({k.tokens, d_k}, rng, Dtype::float64), K = randn({k.tokens, d_k}, rng, Dtype::float64);
      draws[std::size_t(i)] = leaks_of(Q, K, d_k);
    });
    const Statistics v = statistics(column(draws, [](const Leaks& l) { return l.variance; }));
    const double z = (v.mean - double(d_k)) / v.se;
    lab.row(Row{{"question", std::int64_t{1}}, {"d_k", d_k}, {"metric", "score_variance"}} + v +
            Row{{"theory", double(d_k)}, {"z", z}});
    variances.rows.push_back({std::to_string(d_k), with_error(v.mean, v.se), std::to_string(d_k), fixed(z, 1)});
    measured.x.push_back(double(d_k)), measured.y.push_back(v.mean);
    measured.low.push_back(v.p05), measured.high.push_back(v.p95);
    line.x.push_back(double(d_k)), line.y.push_back(double(d_k));

    const double theory = Phi((std::log(double(k.tokens - 1)) - 100) / std::sqrt(double(d_k)));
    std::vector<Statistics> first;
    for (std::size_t f = 0; f < fills.size(); ++f) {
      first.push_back(statistics(column(draws, [f](const Leaks& l) { return l.first[f]; })));
      const Row name = {{"question", std::int64_t{2}},
                        {"d_k", d_k},
                        {"scaled", fills[f].scaled},
                        {"dtype", to_string(fills[f].dtype)},
                        {"fill", std::isinf(fills[f].value) ? std::string("-inf") : number(fills[f].value)}};
      // No draw of an event rarer than 1 / seeds: then its own standard error is the one to go by.
      const double error = std::max(first[f].se, std::sqrt(theory * (1 - theory) / double(k.seeds)));
      const bool has_theory = !fills[f].scaled && !std::isinf(fills[f].value);
      Row row = name + Row{{"metric", "leak_first_row"}} + first[f];
      lab.row(has_theory ? row + Row{{"theory", theory}, {"z", (first[f].mean - theory) / error}} : row);
      const Statistics all = statistics(column(draws, [f](const Leaks& l) { return l.mean[f]; }));
      lab.row(name + Row{{"metric", "leak_mean_row"}} + all);
      if (std::isinf(fills[f].value)) infinite = std::max({infinite, all.p95, all.mean});
    }
    leaks.rows.push_back({std::to_string(d_k), with_error(first[0].mean, first[0].se),
                          theory < 1e-9 ? "< 1e-9" : number(theory, 2), number(first[1].mean, 2),
                          number(first[3].mean, 2), number(first[4].mean)});
    worst = std::max(worst, first[0].mean), worst_scaled = std::max(worst_scaled, first[1].mean);
    bare.x.push_back(double(d_k)), bare.y.push_back(first[0].mean);
    bare.low.push_back(first[0].mean - 2 * first[0].se), bare.high.push_back(first[0].mean + 2 * first[0].se);
    predicted.x.push_back(double(d_k)), predicted.y.push_back(theory);
  }
  lab.draw({.name = "scores_and_fills",
            .title = "",
            .panels = {LineChart{.title = "1. Variance of q.k (band: 5 to 95 %)",
                                 .x_label = "d_k",
                                 .y_label = "variance",
                                 .series = {line, measured},
                                 .log_x = true,
                                 .log_y = true},
                       LineChart{.title = "2. Leak of a -100 fill (band: 2 se)",
                                 .x_label = "d_k",
                                 .y_label = "weight leaked in row 0",
                                 .series = {predicted, bare},
                                 .log_x = true}}});
  lab.show(variances);
  lab.verdict("1. The variance of a score is d_k: that is why it is divided by sqrt(d_k).");
  lab.show(leaks);
  lab.check(infinite == 0, "a fill of -inf leaks exactly nothing, for every d_k, scale and dtype");
  lab.verdict(
      "2. Unscaled, a fill of -100 is no mask: scores have standard deviation sqrt(d_k), so a forbidden key wins "
      "whenever the allowed "
      "score falls below -100, which is " +
      number(100 * worst, 2) + " % of first rows at the largest d_k. Scaled, it leaks at most " +
      number(worst_scaled, 1) + ", about exp(-100): in float32 a denormal, but not 0. With -inf it is 0.");
}

// ---- 3: rank -------------------------------------------------------------------------------------------------------
// X [n, d] of rank r; each head mixes rows by its own attention, then maps columns by its own W_h [d, d].
void ranks(Lab& lab, const Knobs& k) {
  constexpr std::int64_t n = 32, r = 4;
  const std::int64_t d = k.d_model, d_k = d / k.heads;
  Table table{"3. Rank of the output beside the rank of V: " + std::to_string(n) + " tokens, width " +
                  std::to_string(d) + ", V of rank " + std::to_string(r),
              {"heads", "rank", "theory", "effective rank"},
              {}};
  bool as_predicted = true;
  for (std::int64_t h = 1; h <= k.heads; h *= 2) {
    Rng rng = lab.rng(stream(3, h, 0));
    const NoRecord pause;
    const auto normal = [&](std::int64_t rows, std::int64_t columns) {
      return randn({rows, columns}, rng, Dtype::float64);
    };
    const Tensor X = matmul(normal(n, r), normal(r, d)) / std::sqrt(double(r));
    Tensor output = zeros({n, d}, Dtype::float64);
    for (std::int64_t i = 0; i < h; ++i) {
      const Tensor Q = matmul(X, normal(d, d_k)) / std::sqrt(double(d)),
                   K = matmul(X, normal(d, d_k)) / std::sqrt(double(d));
      const Tensor V = matmul(X, normal(d, d)) / std::sqrt(double(d));
      const auto one = [](const Tensor& x) { return reshape(x, {1, x.shape(0), x.shape(1)}); };
      output = output + reshape(surgeon::attention(one(Q), one(K), one(V)).output, {n, d});
    }
    const std::int64_t rank = matrix_rank(output), theory = std::min({n, d, h * r});
    const double effective = effective_rank(singular_values(output));
    as_predicted = as_predicted && rank == theory;
    lab.row({{"question", std::int64_t{3}},
             {"heads", h},
             {"metric", "output_rank"},
             {"mean", double(rank)},
             {"theory", double(theory)}});
    lab.row({{"question", std::int64_t{3}}, {"heads", h}, {"metric", "effective_rank"}, {"mean", effective}});
    table.rows.push_back({std::to_string(h), std::to_string(rank), std::to_string(theory), fixed(effective, 1)});
  }
  lab.show(table);
  lab.check(as_predicted, "the output's rank is min(tokens, width, heads * rank of V)");
  lab.verdict(
      "3. One head only mixes rows of V, so its output has at most V's rank. Several heads add differently mixed "
      "copies of it, "
      "and their sum has up to heads times that rank.");
}

// ---- 4: distance between heads -------------------------------------------------------------------------------------
// Total variation between rows of two heads, half the sum of |p - q|: 0 the same, 1 nothing in common.
double distance(const double* p, const double* q, std::int64_t rows, std::int64_t T) {
  double sum = 0;
  for (std::int64_t i = 0; i < rows * T; ++i) sum += std::abs(p[i] - (q ? q[i] : 1 / double(T)));
  return sum / 2 / double(rows);
}

void distances(Lab& lab, const Knobs& k) {
  const std::int64_t H = k.heads, T = k.tokens, seeds = std::min<std::int64_t>(k.seeds, 100);
  std::vector<double> between, uniform;
  Heatmap map{.x_label = "Head",
              .y_label = "Head",
              .bar_label = "Total variation",
              .values = std::vector(std::size_t(H), std::vector(std::size_t(H), 0.0))};
  for (std::int64_t s = 0; s < seeds; ++s) {
    Rng rng = lab.rng(stream(4, 0, s));
    const NoRecord pause;
    const MultiHeadAttention mha(k.d_model, H, rng, Dtype::float64);
    const Tensor weights = mha(randn({1, T, k.d_model}, rng, Dtype::float64), {.return_weights = true}).weights;
    const double* w = weights.values<double>().data();
    double pairs = 0, from_uniform = 0;
    for (std::int64_t a = 0; a < H; ++a) {
      from_uniform += distance(w + a * T * T, nullptr, T, T) / double(H);
      for (std::int64_t b = 0; b < H; ++b) {
        const double tv = distance(w + a * T * T, w + b * T * T, T, T);
        if (s == 0) map.values[std::size_t(a)][std::size_t(b)] = tv;
        if (a < b) pairs += tv / double(H * (H - 1) / 2);
      }
    }
    between.push_back(pairs), uniform.push_back(from_uniform);
  }
  const Statistics pair = statistics(between), flat = statistics(uniform);
  lab.row(Row{{"question", std::int64_t{4}}, {"heads", H}, {"metric", "distance_between_heads"}} + pair);
  lab.row(Row{{"question", std::int64_t{4}}, {"heads", H}, {"metric", "distance_from_uniform"}} + flat);
  for (const auto& row : map.values)
    map.high = std::max(map.high == 1 ? 0 : map.high, *std::max_element(row.begin(), row.end()));
  map.high = std::ceil(map.high * 20) / 20;
  lab.draw({.name = "head_distances", .title = "4. How different the heads' patterns are", .panels = {map}});
  lab.show({"4. Total variation between rows of weights (0 the same, 1 disjoint), " + std::to_string(seeds) +
                " fresh models",
            {"", "mean", "5 %", "95 %"},
            {{"between two heads", with_error(pair.mean, pair.se), number(pair.p05), number(pair.p95)},
             {"from uniform weights", with_error(flat.mean, flat.se), number(flat.p05), number(flat.p95)}}});
  lab.verdict("4. Fresh heads differ by random weights alone: two heads are " + number(pair.mean / flat.mean, 3) +
              " times as far from each other as each is from uniform (independent ones: about sqrt(2) times): no head "
              "copies another, "
              "and none has a pattern of its own yet.");
}

void run(Lab& lab, const Knobs& k) {
  scores_and_fills(lab, k);
  ranks(lab, k);
  distances(lab, k);
}

}  // namespace

Experiment reflect() {
  return {"reflect",
          "Why sqrt(d_k), why -inf, why several heads, and do they differ? Four questions measured.",
          "Measured: (1) the variance of the scores beside d_k; (2) the weight that a fill of -100 leaks where -inf "
          "leaks none, scaled "
          "and unscaled, float32 and float64; (3) the rank of the output beside the rank of V, for one head and for "
          "several; (4) the "
          "distance between the heads' patterns. Look at each beside its theory.",
          {"surgeon reflect", "surgeon reflect --d-k 1024,16384 --seeds 2000"},
          knobs<Knobs>(options, run)};
}

}  // namespace surgeon::experiments
