// Part 2 of the notebook: the weights of one head as a heatmap.
#include <cmath>

#include "experiments/figures.hpp"
#include "experiments/lab.hpp"
#include "framework/diagnostics.hpp"
#include "layers/layers.hpp"

namespace surgeon::experiments {
namespace {

struct Knobs {
  std::string tokens = "The cat sat on mat", title = "Attention Weights", range = "data";
  double low = automatic, high = automatic;   // of the range, set when the options are checked
  std::int64_t d_k = 8;
};

// "data", or 0:1.
void read_range(Knobs& k) {
  if (k.range == "data") return;
  const std::size_t colon = k.range.find(':');
  Options ends;
  ends.add("--range: low", k.low, "");
  ends.add("--range: high", k.high, "");
  if (colon == std::string::npos) throw UsageError("--range must be data or two numbers, as in 0:1");
  ends.entries()[0].set(k.range.substr(0, colon));
  ends.entries()[1].set(k.range.substr(colon + 1));
  if (!(k.low < k.high)) throw UsageError("--range: the first number must be below the second");
}

void options(Options& o, Knobs& k) {
  o.add("--tokens", k.tokens, "words, separated by spaces");
  o.add("--title", k.title, "title of the figure");
  o.add("--d-k", k.d_k, "size of queries, keys and values", {.low = 1, .high = 1e6});
  o.add("--range", k.range, "ends of the colour scale, such as 0:1; data: the smallest and the largest weight");
  o.before_check([&k] { read_range(k); });
  o.require([&k] { return !words_of(k.tokens).empty(); }, "--tokens has no words");
  o.require([&k] { return words_of(k.tokens).size() <= 200; }, "--tokens: more than 200 words do not fit a figure");
}

// Of the largest weight.
struct Place { std::size_t query = 0, key = 0; };

Place strongest(const std::vector<std::vector<double>>& weights) {
  Place best;
  for (std::size_t q = 0; q < weights.size(); ++q)
    for (std::size_t key = 0; key < weights[q].size(); ++key)
      if (weights[q][key] > weights[best.query][best.key]) best = {q, key};
  return best;
}

void run(Lab& lab, const Knobs& k) {
  const std::vector<std::string> tokens = words_of(k.tokens);
  const std::int64_t T = std::ssize(tokens);
  Rng rng = lab.rng();
  const Shape shape = {1, T, k.d_k};
  const Tensor Q = randn(shape, rng, lab.dtype()), K = randn(shape, rng, lab.dtype()),
               V = randn(shape, rng, lab.dtype());
  const Tensor weights = surgeon::attention(Q, K, V, {.return_weights = true}).weights;

  Heatmap map = heatmap_of(weights);
  map.x_ticks = map.y_ticks = tokens;
  map.bar_label = "Attention Weight";
  map.low = k.low, map.high = k.high;
  map.decimals = T <= 24 ? 2 : -1;
  lab.show(table_of(map, "Attention weights: a row per query, a column per key"));
  for (std::int64_t q = 0; q < T; ++q)
    for (std::int64_t key = 0; key < T; ++key)
      lab.row({{"query", tokens[std::size_t(q)]}, {"key", tokens[std::size_t(key)]},
               {"weight", weights.at({0, q, key})}});
  lab.draw({.name = "heatmap", .title = k.title, .panels = {map}});

  const Place best = strongest(map.values);
  const double mean_entropy = statistics(entropy(weights)).mean;
  lab.result("mean_entropy", mean_entropy);
  lab.verdict("\"" + tokens[best.query] + "\" attends most strongly, to \"" + tokens[best.key] + "\": weight " +
              number(map.values[best.query][best.key], 2) + ".");
  lab.verdict("Mean entropy " + number(mean_entropy) + " of at most " + number(std::log(double(T))) +
              " nats; queries and keys are random, so the pattern means nothing.");
}

}  // namespace

Experiment heatmap() {
  return {"heatmap", "Which token does each token look at?",
          "Varied: the tokens, d_k, the seed. Measured: the weights of one head for random queries and keys. Look at "
          "the figure: each row is a query, each column a key, and each row sums to 1.",
          {"surgeon heatmap", "surgeon heatmap --tokens \"a b c\" --title \"Three tokens\" --seed 7 --range 0:1"},
          knobs<Knobs>(options, run)};
}

}  // namespace surgeon::experiments
