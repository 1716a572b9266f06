// Part 1 of the notebook: the function itself, on tensors small enough to look at.
#include <cmath>

#include "experiments/lab.hpp"
#include "layers/layers.hpp"

namespace surgeon::experiments {
namespace {

struct Knobs {
  std::int64_t batch = 2, tokens = 5, d_k = 8;
};

void options(Options& o, Knobs& k) {
  o.add("--batch", k.batch, "number of sequences", {.low = 1, .high = 1e4});
  o.add("--tokens", k.tokens, "tokens in each sequence", {.low = 1, .high = 1e4});
  o.add("--d-k", k.d_k, "size of queries, keys and values", {.low = 1, .high = 1e6});
}

void show_shapes(Lab& lab, const Tensor& Q, const AttentionResult& result) {
  Table table{"Shapes", {"tensor", "shape", "what it is"}, {}};
  const auto add = [&](const std::string& name, const Tensor& t, const std::string& what) {
    table.rows.push_back({name, to_string(t.shape()), what});
    lab.row({{"tensor", name}, {"shape", to_string(t.shape())}});
  };
  add("Q, K, V", Q, "[batch, tokens, d_k]");
  add("scores", result.scores, "[batch, queries, keys]: Q K^T / sqrt(d_k)");
  add("weights", result.weights, "[batch, queries, keys]: softmax over keys");
  add("output", result.output, "[batch, queries, d_v]: weights times V");
  lab.show(table);
}

// The largest difference of a row's sum from 1.
double show_row_sums(Lab& lab, const Tensor& weights) {
  const Tensor sums = sum(weights.to(Dtype::float64), -1);   // [batch, queries]
  Table table{"Sum of each row of weights, one row per query", {"sequence"}, {}};
  for (std::int64_t q = 0; q < sums.shape(1); ++q) table.header.push_back("query " + std::to_string(q));
  double worst = 0;
  for (std::int64_t b = 0; b < sums.shape(0); ++b) {
    table.rows.push_back({std::to_string(b)});
    for (std::int64_t q = 0; q < sums.shape(1); ++q) {
      const double total = sums.at({b, q});
      worst = std::max(worst, std::abs(total - 1));
      table.rows.back().push_back(fixed(total, 7));
      lab.row({{"sequence", b}, {"query", q}, {"row_sum", total}});
    }
  }
  lab.show(table);
  return worst;
}

void run(Lab& lab, const Knobs& k) {
  Rng rng = lab.rng();
  const Shape shape = {k.batch, k.tokens, k.d_k};
  const Tensor Q = randn(shape, rng, lab.dtype()), K = randn(shape, rng, lab.dtype()),
               V = randn(shape, rng, lab.dtype());
  const AttentionResult result = surgeon::attention(Q, K, V, {.return_weights = true});
  show_shapes(lab, Q, result);
  const double worst = show_row_sums(lab, result.weights);

  const double tolerance = (lab.dtype() == Dtype::float32 ? 1e-7 : 2e-16) * (8 + double(k.tokens));
  lab.result("worst_row_sum_error", worst);
  lab.check(worst <= tolerance, "every row of weights sums to 1");
  lab.check(result.output.shape() == shape, "the output has the shape of V");
  lab.verdict("Each query's weights sum to 1 (largest error " + number(worst) + ").");
}

}  // namespace

Experiment attention() {
  return {"attention", "What does attention compute, and in which shapes?",
          "Varied: batch, tokens, d_k. Measured: the shape of every intermediate tensor and the sum of each row of "
          "weights. Look at the row sums: each must be 1.",
          {"surgeon attention", "surgeon attention --batch 1 --tokens 3 --d-k 4 --dtype float64"},
          knobs<Knobs>(options, run)};
}

}  // namespace surgeon::experiments
