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
  o.add("--mask-tokens", k.mask_tokens, "tokens in the figure of the masks", {.low = 1, .high = 64});
  o.add("--tokens", k.tokens, "tokens in the sequence", {.low = 2, .high = 64});
  o.add("--d-k", k.d_k, "size of queries, keys and values", {.low = 1, .high = 1e6});
}

void draw_masks(Lab& lab, std::int64_t T) {
  Figure figure{.name = "masks", .note = "1 = can attend, 0 = cannot attend (masked out)"};
  for (const auto& [title, mask, palette] :
       {std::tuple{"Causal Mask (Correct)\nCan see past and present", causal_mask(T), Palette::blues},
        std::tuple{"Reverse Mask (Wrong!)\nCan see future!", reverse_mask(T), Palette::reds},
        std::tuple{"No Mask (Bidirectional)\nCan see everything", no_mask(T), Palette::greens}}) {
    Heatmap map = heatmap_of(mask);
    map.title = title;
    map.x_label = "Key Position";
    map.y_label = "Query Position";
    map.palette = palette;
    map.low = 0, map.high = 1;
    map.decimals = 0;
    figure.panels.push_back(map);
  }
  lab.draw(figure);
}

// The weights on keys after the query: their sum, and how many are not 0.
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

struct Draw { Tensor Q, K, V, upstream; };   // upstream: the gradient of the first query's output

Draw drawn(Lab& lab, const Knobs& k) {
  Rng rng = lab.rng();
  const auto normal = [&](std::int64_t tokens) { return randn({1, tokens, k.d_k}, rng, lab.dtype()); };
  Tensor Q = normal(k.tokens), K = normal(k.tokens), V = normal(k.tokens);
  return {Q, K, V, normal(1)};
}

struct Masked {
  std::string name, title;
  Tensor weights;
  Future future;
  double gradient = 0;   // of the first query's output with respect to the values after it
};

Masked attend(const Draw& d, const std::string& name, const std::string& title, const Tensor& mask) {
  const auto [output, weights, scores] = surgeon::attention(d.Q, d.K, d.V, {.mask = mask, .return_weights = true});
  const auto [dV] = grad(slice(output, 1, 0, 1), {d.V}, {.cotangent = d.upstream});
  return {name, title, weights, future_of(weights), norm(slice(dV, 1, 1))};
}

void write_rows(Lab& lab, const Masked& m, std::int64_t T) {
  for (std::int64_t q = 0; q < T; ++q)
    for (std::int64_t key = 0; key < T; ++key)
      lab.row({{"mask", m.name}, {"query", q}, {"key", key}, {"weight", m.weights.at({0, q, key})}});
}

void draw_weights(Lab& lab, const Masked& without, const Masked& causal) {
  Figure figure{.name = "weights", .title = "The same queries and keys under two masks"};
  for (const Masked* m : {&without, &causal}) {
    Heatmap map = heatmap_of(m->weights);
    map.title = m->title;
    map.bar_label = "Attention Weight";
    map.low = 0, map.high = 1;
    figure.panels.push_back(map);
  }
  lab.draw(figure);
}

void run(Lab& lab, const Knobs& k) {
  draw_masks(lab, k.mask_tokens);
  const std::int64_t T = k.tokens;
  const Draw draw = drawn(lab, k);
  const Masked none = attend(draw, "no mask", "Attention Without Mask (Bidirectional)", no_mask(T)),
               causal = attend(draw, "causal", "Attention With Causal Mask (Autoregressive)", causal_mask(T)),
               reverse = attend(draw, "reverse", "", reverse_mask(T));
  Table table{"Attention to the future, that is to keys after the query",
              {"mask", "weight per row", "weights above 0", "|d out[0] / d later V|"},
              {}};
  for (const Masked* m : {&none, &causal, &reverse}) {
    table.rows.push_back({m->name, number(m->future.weight / double(T)),
                          std::to_string(m->future.cells) + " of " + std::to_string(T * (T - 1) / 2),
                          number(m->gradient)});
    write_rows(lab, *m, T);
    lab.result("future_weight_" + (m == &none ? "none" : m->name), m->future.weight / double(T));
  }
  draw_weights(lab, none, causal);
  lab.show(table_of(heatmap_of(causal.weights), "Weights under the causal mask: a row per query, a column per key"));
  lab.show(table);

  lab.check(causal.future.cells == 0, "causal: all weights on later keys are exactly 0");
  lab.check(causal.weights.at({0, 0, 0}) == 1, "causal: query 0 attends to itself alone, with weight exactly 1");
  lab.check(causal.gradient == 0, "causal: the gradient of output 0 with respect to later values is exactly 0");
  lab.verdict("Under the causal mask the future has weight 0 and gradient 0; under the reverse mask it has " +
              number(100 * reverse.future.weight / double(T), 3) + " % of all weight.");
}

}  // namespace

Experiment masking() {
  return {
      "masking",
      "What does the causal mask hide, and what does the reverse one leak?",
      "Varied: no mask, the causal and the reverse mask, on the same queries, keys and values. Measured: the weights, "
      "how much of them lies on keys after the query, and the gradient of the first output with respect to later "
      "values. Look at the weights on later keys: exactly 0 under the causal mask.",
      {"surgeon masking", "surgeon masking --tokens 4 --d-k 64 --seed 3"},
      knobs<Knobs>(options, run)};
}

}  // namespace surgeon::experiments
