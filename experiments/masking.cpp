// Part 4 of the notebook: what the causal mask does, and what the wrong one leaks.
#include "experiments/figures.hpp"
#include "experiments/lab.hpp"
#include "framework/diagnostics.hpp"
#include "layers/layers.hpp"

namespace surgeon::experiments {
namespace {

struct Knobs {
  std::int64_t mask_tokens = 8, tokens = 6, d_k = 8;
};

void options(Options& o, Knobs& k) {
  o.add("--mask-tokens", k.mask_tokens, "size of the masks in the picture", {.low = 1, .high = 64});
  o.add("--tokens", k.tokens, "positions of the sequence", {.low = 2, .high = 64});
  o.add("--d-k", k.d_k, "numbers in each query, key and value", {.low = 1, .high = 1e6});
}

void draw_masks(Lab& lab, std::int64_t T) {
  Figure figure{.name = "masks", .title = "Three masks: 1 where a query may look"};
  for (const auto& [title, mask, palette] : {std::tuple{"Causal", causal_mask(T), Palette::blues},
                                             std::tuple{"Reverse", reverse_mask(T), Palette::reds},
                                             std::tuple{"No mask", no_mask(T), Palette::greens}}) {
    Heatmap map = heatmap_of(mask);
    map.title = title;
    map.palette = palette;
    map.decimals = 0;
    figure.panels.push_back(map);
  }
  lab.draw(figure);
}

// Sum and number of the non-zero weights on keys after the query.
struct Future { double weight = 0; std::int64_t cells = 0; };

Future future_of(const Tensor& weights) {
  const std::int64_t T = weights.shape(-1);
  Future f;
  for (std::int64_t q = 0; q < T; ++q)
    for (std::int64_t key = q + 1; key < T; ++key) {
      f.weight += weights.at({0, q, key});
      f.cells += weights.at({0, q, key}) != 0;
    }
  return f;
}

struct Draw { Tensor Q, K, V; };

struct Masked {
  std::string name;
  Tensor weights;
  Future future;
  double gradient = 0;   // of the first query's output with respect to the values after it
};

Masked attend(const Draw& d, const std::string& name, const Tensor& mask, const Tensor& upstream) {
  const auto [output, weights, scores] = surgeon::attention(d.Q, d.K, d.V, {.mask = mask, .return_weights = true});
  const auto [dV] = grad(slice(output, 1, 0, 1), {d.V}, {.cotangent = upstream});
  return {name, weights, future_of(weights), norm(slice(dV, 1, 1))};
}

void run(Lab& lab, const Knobs& k) {
  draw_masks(lab, k.mask_tokens);
  const std::int64_t T = k.tokens;
  Rng rng = lab.rng();
  const Shape shape = {1, T, k.d_k};
  const Draw draw{randn(shape, rng, lab.dtype()), randn(shape, rng, lab.dtype()), randn(shape, rng, lab.dtype())};
  const Tensor upstream = randn({1, 1, k.d_k}, rng, lab.dtype());
  const std::vector<Masked> all = {attend(draw, "no mask", no_mask(T), upstream),
                                   attend(draw, "causal", causal_mask(T), upstream),
                                   attend(draw, "reverse", reverse_mask(T), upstream)};

  Figure figure{.name = "weights", .title = "The same queries and keys, without and with the causal mask"};
  Table table{"Weight on the future: keys after the query",
              {"mask", "weight a row", "cells above 0", "|d out[0] / d later V|"},
              {}};
  for (const Masked& m : all) {
    Heatmap map = heatmap_of(m.weights);
    map.title = m.name == "no mask" ? "No mask" : m.name == "causal" ? "Causal mask" : "Reverse mask";
    map.bar_label = m.name == "causal" ? "Attention weight" : "";
    if (m.name != "reverse") figure.panels.push_back(map);
    table.rows.push_back({m.name, number(m.future.weight / double(T)),
                          std::to_string(m.future.cells) + " of " + std::to_string(T * (T - 1) / 2),
                          number(m.gradient)});
    for (std::int64_t q = 0; q < T; ++q)
      for (std::int64_t key = 0; key < T; ++key)
        lab.row({{"mask", m.name}, {"query", q}, {"key", key}, {"weight", m.weights.at({0, q, key})}});
    lab.result("future_weight_" + std::string(m.name == "no mask" ? "none" : m.name), m.future.weight / double(T));
  }
  lab.draw(figure);
  lab.show(table_of(heatmap_of(all[1].weights), "Weights under the causal mask: rows are queries, columns keys"));
  lab.show(table);

  const Masked &causal = all[1], &reverse = all[2];
  lab.check(causal.future.cells == 0, "causal: the upper triangle is exactly 0");
  lab.check(causal.weights.at({0, 0, 0}) == 1, "causal: row 0 attends only to itself, with weight exactly 1");
  lab.check(causal.gradient == 0,
            "causal: the first output does not move with later values: the gradient is exactly 0");
  lab.verdict(
      "The causal mask keeps every query from the future exactly, in weights and in gradients. The reverse mask "
      "does the opposite: " +
      number(100 * reverse.future.weight / double(T), 3) +
      " % of all weight lies on later keys, only the last query is honest, and a model trained with it reads the "
      "answer it should predict.");
}

}  // namespace

Experiment masking() {
  return {
      "masking",
      "What does the causal mask hide, and what does the reverse one leak?",
      "Varied: none, causal and reverse mask on the same queries, keys and values. Measured: the weights, how much of "
      "them lies on keys after the query, and the gradient of the first output with respect to later values. Look at "
      "the upper triangle: exactly 0 under the causal mask.",
      {"surgeon masking", "surgeon masking --tokens 4 --d-k 64 --seed 3"},
      knobs<Knobs>(options, run)};
}

}  // namespace surgeon::experiments
