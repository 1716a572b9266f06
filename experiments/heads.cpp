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
  o.add("--heads", k.heads, "heads; they divide --d-model", {.low = 1, .high = 1024});
  o.add("--batch", k.batch, "sequences", {.low = 1, .high = 1024});
  o.add("--tokens", k.tokens, "positions in each", {.low = 1, .high = 512});
  o.require([&k] { return k.d_model % k.heads == 0; }, "--heads must divide --d-model");
}

Figure picture(const Tensor& weights, const Knobs& k) {
  double most = 0;   // one scale for all heads of the first sequence, or their differences would not show
  for (std::int64_t h = 0; h < k.heads; ++h)
    for (std::int64_t q = 0; q < k.tokens; ++q)
      for (std::int64_t key = 0; key < k.tokens; ++key) most = std::max(most, weights.at({h, q, key}));
  Figure figure{.name = "heads",
                .title = "What each head looks at in the first sequence",
                .columns = int(std::min<std::int64_t>(k.heads, 4))};
  const std::int64_t shown = std::min<std::int64_t>(k.heads, 16);
  for (std::int64_t h = 0; h < shown; ++h) {
    Heatmap map = heatmap_of(weights, h);
    map.title = "Head " + std::to_string(h);
    map.high = std::ceil(most * 20) / 20;
    map.decimals = k.tokens <= 12 ? 2 : -1;
    if (h % figure.columns == figure.columns - 1 || h == shown - 1) map.bar_label = "Attention weight";
    figure.panels.push_back(map);
  }
  return figure;
}

void run(Lab& lab, const Knobs& k) {
  Rng parameter_rng = lab.rng(0), data_rng = lab.rng(1);
  const MultiHeadAttention mha(k.d_model, k.heads, parameter_rng, lab.dtype());
  const Tensor x = randn({k.batch, k.tokens, k.d_model}, data_rng, lab.dtype());
  const Tensor G = randn(x.shape(), data_rng, lab.dtype());
  const auto [output, weights, scores] = mha(x, {.return_weights = true});

  Table shapes{"", {"tensor", "shape"}, {}};
  shapes.rows = {{"input", to_string(x.shape())},
                 {"weights (sequence, head)", to_string(weights.shape())},
                 {"output", to_string(output.shape())},
                 {"d_k of a head", std::to_string(mha.d_k)},
                 {"parameters", std::to_string(mha.parameters().count())}};
  lab.show(shapes);
  lab.result("parameters", mha.parameters().count());
  lab.result("d_k", mha.d_k);

  // L = sum(output * G)
  const Parameters parameters = mha.parameters();
  const std::vector<Tensor> gradients = grad(output, parameters.tensors(), {.cotangent = G});
  Table table{"Gradient of L = sum(output * G), G from N(0,1), for each parameter",
              {"parameter", "shape", "|gradient|", "per sqrt(number)"},
              {}};
  std::map<std::string, double> norms;
  std::size_t i = 0;
  for (const auto& [name, parameter] : parameters) {
    const double size = norms[name] = norm(gradients[i++]);
    table.rows.push_back(
        {name, to_string(parameter.shape()), number(size), number(size / std::sqrt(double(parameter.size())))});
    lab.row({{"parameter", name}, {"shape", to_string(parameter.shape())}, {"gradient_norm", size}});
  }
  lab.show(table);
  const std::vector<double> entropies = entropy(weights);
  for (std::int64_t h = 0; h < k.heads; ++h) {
    double sum = 0;
    for (std::int64_t b = 0; b < k.batch; ++b)
      for (std::int64_t q = 0; q < k.tokens; ++q) sum += entropies[std::size_t((b * k.heads + h) * k.tokens + q)];
    lab.row({{"head", h}, {"mean_entropy", sum / double(k.batch * k.tokens)}});
  }
  lab.draw(picture(weights, k));

  const std::int64_t expected = 4 * k.d_model * (k.d_model + 1);
  const double rounding = lab.dtype() == Dtype::float32 ? 1e-4 : 1e-12;
  const double share = norms["W_k.bias"] / norms["W_k.weight"];
  lab.check(parameters.count() == expected,
            "four Linear layers with bias have 4 d_model (d_model + 1) = " + std::to_string(expected) + " numbers");
  lab.check(share < rounding,
            "the key bias's gradient is 0 up to rounding (" + number(share) + " of the key weight's)");
  lab.verdict(
      "Every parameter but one gets a gradient. The key bias b adds the same number, q.b, to all scores of a row, and "
      "softmax does not see what is added to all: its gradient is exactly 0 in theory, " +
      number(norms["W_k.bias"]) + " here by rounding, against " + number(norms["W_q.bias"]) + " for the query bias.");
}

}  // namespace

Experiment heads() {
  return {"heads",
          "What do several heads look at, and which parameter gets which gradient?",
          "Varied: d_model, heads, batch, tokens, the seed. Measured: shapes, the number of parameters, each head's "
          "weights and entropy, the norm of the gradient of each of the eight parameters. Look at W_k.bias: its "
          "gradient is 0 up to rounding.",
          {"surgeon heads", "surgeon heads --d-model 32 --heads 4 --dtype float64"},
          knobs<Knobs>(options, run)};
}

}  // namespace surgeon::experiments
