// Part 5 of the notebook: several heads, their patterns, and the gradient that reaches each parameter.
#include <cmath>
#include <map>

#include "experiments/figures.hpp"
#include "experiments/lab.hpp"
#include "framework/diagnostics.hpp"
#include "layers/layers.hpp"

namespace surgeon::experiments {
namespace {

struct Knobs {
  std::int64_t d_model = 64, heads = 8, batch = 2, tokens = 10;
};

void options(Options& o, Knobs& k) {
  o.add("--d-model", k.d_model, "width of the model", {.low = 1, .high = 16384});
  o.add("--heads", k.heads, "number of heads; must divide --d-model", {.low = 1, .high = 1024});
  o.add("--batch", k.batch, "number of sequences", {.low = 1, .high = 1024});
  // With one token every weight is 1, and W_q and W_k have no gradient to compare the bias's with.
  o.add("--tokens", k.tokens, "tokens in each sequence", {.low = 2, .high = 512});
  o.require([&k] { return k.d_model % k.heads == 0; }, "--heads must divide --d-model");
}

constexpr std::int64_t most_shown = 16;

// One map for each head of the first sequence, on one scale, so that they can be compared.
Figure picture(const Tensor& x, const Knobs& k, const Heatmap& style) {
  double most = 0;
  for (std::int64_t h = 0; h < k.heads; ++h)
    for (std::int64_t q = 0; q < k.tokens; ++q)
      for (std::int64_t key = 0; key < k.tokens; ++key) most = std::max(most, std::abs(x.at({h, q, key})));
  const std::int64_t shown = std::min(k.heads, most_shown);
  Figure figure{.columns = int(std::min<std::int64_t>(k.heads, 4)), .one_bar = true};
  for (std::int64_t h = 0; h < shown; ++h) {
    Heatmap map = heatmap_of(x, h);
    map.title = "Head " + std::to_string(h);
    map.palette = style.palette;
    map.decimals = style.decimals;
    map.low = style.palette == Palette::diverging ? -most : 0, map.high = most;
    map.bar_label = style.bar_label;
    figure.panels.push_back(map);
  }
  return figure;
}

void draw_maps(Lab& lab, const Knobs& k, const Tensor& weights, const Tensor& dscores) {
  Figure figure = picture(weights, k, {.bar_label = "Attention Weight", .decimals = k.tokens <= 12 ? 2 : -1});
  figure.name = "heads";
  figure.title = "Attention weights of each head, first sequence";
  lab.draw(figure);
  figure = picture(dscores, k, {.bar_label = "dL/dscores", .palette = Palette::diverging, .decimals = -1});
  figure.name = "score_gradients";
  figure.title = "The gradient of each score, first sequence: every row sums to 0";
  lab.draw(figure);
}

void show_shapes(Lab& lab, const MultiHeadAttention& mha, const Tensor& x, const AttentionResult& result) {
  lab.show({"",
            {"tensor", "shape"},
            {{"input", to_string(x.shape())},
             {"weights (sequence, head)", to_string(result.weights.shape())},
             {"output", to_string(result.output.shape())},
             {"d_k per head", std::to_string(mha.d_k)},
             {"parameters", std::to_string(mha.parameters().count())}}});
  lab.result("parameters", mha.parameters().count());
  lab.result("d_k", mha.d_k);
}

// Of L = sum(output * G): with respect to each parameter, in their order, and to the scores.
struct Gradients { std::vector<Tensor> parameters; Tensor scores; };

Gradients gradients_of(const MultiHeadAttention& mha, const AttentionResult& result, const Tensor& G) {
  std::vector<Tensor> asked = mha.parameters().tensors();
  asked.push_back(result.scores);
  std::vector<Tensor> all = grad(result.output, asked, {.cotangent = G});
  Tensor scores = all.back();
  all.pop_back();
  return {std::move(all), std::move(scores)};
}

// The norms by name.
std::map<std::string, double> show_gradients(Lab& lab, const Parameters& parameters, const Gradients& gradients) {
  Table table{"Gradient of L = sum(output * G), G from N(0,1): norm, and RMS of its elements",
              {"parameter", "shape", "norm", "RMS"},
              {}};
  std::map<std::string, double> norms;
  std::size_t i = 0;
  for (const auto& [name, parameter] : parameters) {
    const double size = norms[name] = norm(gradients.parameters[i++]);
    table.rows.push_back(
        {name, to_string(parameter.shape()), number(size), number(size / std::sqrt(double(parameter.size())))});
    lab.row({{"parameter", name}, {"shape", to_string(parameter.shape())}, {"gradient_norm", size}});
  }
  lab.show(table);
  return norms;
}

// For each head: the mean entropy of its rows, over all sequences, and the gradients of its part of W_q, W_k and W_v.
void measure_heads(Lab& lab, const Knobs& k, const MultiHeadAttention& mha, const Tensor& weights,
                   const Gradients& gradients) {
  const std::vector<double> entropies = entropy(weights);   // of [batch * heads, T, T]
  Bars bars{.title = "Gradient of each head's part", .x_label = "Head", .y_label = "norm"};
  std::vector<Row> rows;
  for (std::int64_t h = 0; h < k.heads; ++h) {
    double sum = 0;
    for (std::int64_t b = 0; b < k.batch; ++b)
      for (std::int64_t q = 0; q < k.tokens; ++q) sum += entropies[std::size_t((b * k.heads + h) * k.tokens + q)];
    rows.push_back({{"head", h}, {"mean_entropy", sum / double(k.batch * k.tokens)}});
    if (h < most_shown) bars.names.push_back(std::to_string(h));
  }
  std::size_t i = 0;
  for (const auto& [name, parameter] : mha.parameters()) {
    const Tensor& gradient = gradients.parameters[i++];
    if (name != "W_q.weight" && name != "W_k.weight" && name != "W_v.weight") continue;
    Series& series = bars.series.emplace_back(Series{.name = typeset(name.substr(0, 3))});
    for (std::int64_t h = 0; h < k.heads; ++h) {   // a head's part: d_k rows of [d_model, d_model]
      const double size = norm(slice(gradient, 0, h * mha.d_k, (h + 1) * mha.d_k));
      rows[std::size_t(h)].emplace_back("gradient_norm_" + name.substr(0, 3), size);
      if (h < most_shown) series.y.push_back(size);
    }
  }
  for (const Row& row : rows) lab.row(row);
  lab.draw({.name = "head_gradients", .panels = {bars}});
}

void run(Lab& lab, const Knobs& k) {
  Rng parameter_rng = lab.rng(0), data_rng = lab.rng(1);
  const MultiHeadAttention mha(k.d_model, k.heads, parameter_rng, lab.dtype());
  const Tensor x = randn({k.batch, k.tokens, k.d_model}, data_rng, lab.dtype());
  const Tensor G = randn(x.shape(), data_rng, lab.dtype());
  const AttentionResult result = mha(x, {.return_weights = true});
  show_shapes(lab, mha, x, result);
  const Parameters parameters = mha.parameters();
  const Gradients gradients = gradients_of(mha, result, G);
  const std::map<std::string, double> norms = show_gradients(lab, parameters, gradients);
  measure_heads(lab, k, mha, result.weights, gradients);
  draw_maps(lab, k, result.weights, gradients.scores);

  const std::int64_t expected = 4 * k.d_model * (k.d_model + 1);
  const double rounding = lab.dtype() == Dtype::float32 ? 1e-4 : 1e-12;
  const double share = norms.at("W_k.bias") / norms.at("W_k.weight");
  lab.check(parameters.count() == expected,
            "4 d_model (d_model + 1) = " + std::to_string(expected) + " parameters");
  lab.check(share < rounding, "the gradient of the key bias is 0 up to rounding");
  lab.verdict("The key bias gets a gradient of " + number(norms.at("W_k.bias")) + " (theory: 0), the query bias of " +
              number(norms.at("W_q.bias")) + ": softmax ignores what a whole row shares.");
}

}  // namespace

Experiment heads() {
  return {"heads",
          "What do several heads attend to, and which parameter gets which gradient?",
          "Varied: d_model, heads, batch, tokens, the seed. Measured: shapes, the number of parameters, the weights "
          "and mean entropy of each head, and the norm of the gradient of each of the eight parameters. Look at "
          "W_k.bias: its gradient is 0 up to rounding.",
          {"surgeon heads", "surgeon heads --d-model 32 --heads 4 --dtype float64"},
          knobs<Knobs>(options, run)};
}

}  // namespace surgeon::experiments
