// Part 2 of the notebook: one head as a picture, who looks at whom.
#include <cmath>

#include "experiments/figures.hpp"
#include "experiments/lab.hpp"
#include "framework/diagnostics.hpp"
#include "layers/layers.hpp"

namespace surgeon::experiments {
namespace {

struct Knobs {
  std::string tokens = "The cat sat on mat", title = "Attention weights";
  std::int64_t d_k = 8;
};

void options(Options& o, Knobs& k) {
  o.add("--tokens", k.tokens, "the words, separated by spaces");
  o.add("--title", k.title, "of the picture");
  o.add("--d-k", k.d_k, "numbers in each query, key and value", {.low = 1, .high = 1e6});
  o.require([&k] { return !words_of(k.tokens).empty(); }, "--tokens: there is no word in it");
  o.require([&k] { return words_of(k.tokens).size() <= 200; }, "--tokens: more than 200 words fit no picture");
}

void run(Lab& lab, const Knobs& k) {
  const std::vector<std::string> tokens = words_of(k.tokens);
  const std::int64_t T = std::int64_t(tokens.size());
  Rng rng = lab.rng();
  const Shape shape = {1, T, k.d_k};
  const Tensor Q = randn(shape, rng, lab.dtype()), K = randn(shape, rng, lab.dtype()),
               V = randn(shape, rng, lab.dtype());
  const Tensor weights = surgeon::attention(Q, K, V, {.return_weights = true}).weights;

  Heatmap map = heatmap_of(weights);
  map.x_ticks = map.y_ticks = tokens;
  map.bar_label = "Attention weight";
  map.decimals = T <= 24 ? 2 : -1;
  lab.show(table_of(map, "Rows are queries, columns the keys they look at"));
  for (std::int64_t q = 0; q < T; ++q)
    for (std::int64_t key = 0; key < T; ++key)
      lab.row(
          {{"query", tokens[std::size_t(q)]}, {"key", tokens[std::size_t(key)]}, {"weight", weights.at({0, q, key})}});
  lab.draw({.name = "heatmap", .title = k.title, .panels = {map}});

  std::size_t query = 0, key = 0;
  for (std::size_t q = 0; q < map.values.size(); ++q)
    for (std::size_t c = 0; c < map.values[q].size(); ++c)
      if (map.values[q][c] > map.values[query][key]) query = q, key = c;
  const double bits = statistics(entropy(weights)).mean;
  lab.result("mean_entropy", bits);
  lab.verdict("The strongest look is from \"" + tokens[query] + "\" to \"" + tokens[key] + "\" with weight " +
              number(map.values[query][key], 2) + "; a row's mean entropy is " + number(bits) + " nats of at most " +
              number(std::log(double(T))) + ". The queries and keys are random: the pattern means nothing yet.");
}

}  // namespace

Experiment heatmap() {
  return {"heatmap", "Which token does each token look at?",
          "Varied: the tokens, d_k, the seed. Measured: the weights of one head over random queries and keys. Look at "
          "the picture: a row is a query, a column a key, each row sums to 1.",
          {"surgeon heatmap", "surgeon heatmap --tokens \"a b c\" --title \"Three tokens\" --seed 7"},
          knobs<Knobs>(options, run)};
}

}  // namespace surgeon::experiments
