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
  o.add("--batch", k.batch, "sequences", {.low = 1, .high = 1e4});
  o.add("--tokens", k.tokens, "positions in each", {.low = 1, .high = 1e4});
  o.add("--d-k", k.d_k, "numbers in each query, key and value", {.low = 1, .high = 1e6});
}

void run(Lab& lab, const Knobs& k) {
  Rng rng = lab.rng();
  const Shape shape = {k.batch, k.tokens, k.d_k};
  const Tensor Q = randn(shape, rng, lab.dtype()), K = randn(shape, rng, lab.dtype()),
               V = randn(shape, rng, lab.dtype());
  const auto [output, weights, scores] = surgeon::attention(Q, K, V, {.return_weights = true});

  Table shapes{"The shapes on the way", {"tensor", "shape", "what it is"}, {}};
  auto shape_row = [&](const std::string& name, const Tensor& t, const std::string& what) {
    shapes.rows.push_back({name, to_string(t.shape()), what});
    lab.row({{"tensor", name}, {"shape", to_string(t.shape())}});
  };
  shape_row("Q, K, V", Q, "[batch, tokens, d_k]");
  shape_row("scores", scores, "[batch, queries, keys]: Q K^T / sqrt(d_k)");
  shape_row("weights", weights, "[batch, queries, keys]: softmax over keys");
  shape_row("output", output, "[batch, queries, d_v]: weights times V");
  lab.show(shapes);

  const Tensor sums = sum(weights.to(Dtype::float64), -1);   // [batch, queries]
  Table table{"Sums of the rows of weights, one for each query", {"sequence"}, {}};
  for (std::int64_t t = 0; t < k.tokens; ++t) table.header.push_back("query " + std::to_string(t));
  double worst = 0;
  for (std::int64_t b = 0; b < k.batch; ++b) {
    table.rows.push_back({std::to_string(b)});
    for (std::int64_t t = 0; t < k.tokens; ++t) {
      const double total = sums.at({b, t});
      worst = std::max(worst, std::abs(total - 1));
      table.rows.back().push_back(fixed(total, 7));
      lab.row({{"sequence", b}, {"query", t}, {"row_sum", total}});
    }
  }
  lab.show(table);

  const double tolerance = (lab.dtype() == Dtype::float32 ? 1e-7 : 2e-16) * (8 + double(k.tokens));
  lab.result("worst_row_sum_error", worst);
  lab.check(worst <= tolerance, "every row of weights sums to 1 (largest difference " + number(worst) + ")");
  lab.check(output.shape() == shape, "the output has the shape of V: one mixture of values for each query");
  lab.verdict("Each query turns its scores into weights that sum to 1, and its output is that mixture of the values.");
}

}  // namespace

Experiment attention() {
  return {"attention", "What does attention compute, and in which shapes?",
          "Varied: batch, tokens, d_k. Measured: the shape of every tensor on the way, the sum of each row of weights. "
          "Look at the row sums: each must be 1.",
          {"surgeon attention", "surgeon attention --batch 1 --tokens 3 --d-k 4 --dtype float64"},
          knobs<Knobs>(options, run)};
}

}  // namespace surgeon::experiments
