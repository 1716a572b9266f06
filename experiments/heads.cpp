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

Figure picture(const Tensor& weights, const Knobs& k) {
  double most = 0;   // one scale for all heads of the first sequence, so that they can be compared
  for (std::int64_t h = 0; h < k.heads; ++h)
    for (std::int64_t q = 0; q < k.tokens; ++q)
      for (std::int64_t key = 0; key < k.tokens; ++key) most = std::max(most, weights.at({h, q, key}));
  Figure figure{.name = "heads",
                .title = "Attention weights of each head, first sequence",
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

// The norms by name, of L = sum(output * G).
std::map<std::string, double> show_gradients(Lab& lab, const Parameters& parameters, const Tensor& output,
                                             const Tensor& G) {
  const std::vector<Tensor> gradients = grad(output, parameters.tensors(), {.cotangent = G});
  Table table{"Gradient of L = sum(output * G), G from N(0,1): norm, and RMS over the parameter's elements",
              {"parameter", "shape", "norm", "RMS"},
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
  return norms;
}

// For each head, the mean entropy of its rows, over all sequences.
void write_entropies(Lab& lab, const Knobs& k, const Tensor& weights) {
  const std::vector<double> entropies = entropy(weights);   // of [batch * heads, T, T]
  for (std::int64_t h = 0; h < k.heads; ++h) {
    double sum = 0;
    for (std::int64_t b = 0; b < k.batch; ++b)
      for (std::int64_t q = 0; q < k.tokens; ++q) sum += entropies[std::size_t((b * k.heads + h) * k.tokens + q)];
    lab.row({{"head", h}, {"mean_entropy", sum / double(k.batch * k.tokens)}});
  }
}

void run(Lab& lab, const Knobs& k) {
  Rng parameter_rng = lab.rng(0), data_rng = lab.rng(1);
  const MultiHeadAttention mha(k.d_model, k.heads, parameter_rng, lab.dtype());
  const Tensor x = randn({k.batch, k.tokens, k.d_model}, data_rng, lab.dtype());
  const Tensor G = randn(x.shape(), data_rng, lab.dtype());
  const AttentionResult result = mha(x, {.return_weights = true});
  show_shapes(lab, mha, x, result);
  const Parameters parameters = mha.parameters();
  const std::map<std::string, double> norms = show_gradients(lab, parameters, result.output, G);
  write_entropies(lab, k, result.weights);
  lab.draw(picture(result.weights, k));

  const std::int64_t expected = 4 * k.d_model * (k.d_model + 1);
  const double rounding = lab.dtype() == Dtype::float32 ? 1e-4 : 1e-12;
  const double share = norms.at("W_k.bias") / norms.at("W_k.weight");
  lab.check(parameters.count() == expected,
            "four Linear layers with bias have 4 d_model (d_model + 1) = " + std::to_string(expected) + " parameters");
  lab.check(share < rounding,
            "the gradient of the key bias is 0 up to rounding (" + number(share) + " times the key weight's)");
  lab.verdict("Every parameter but the key bias gets a gradient. The key bias adds the same number to all scores of a "
              "row, which softmax ignores: in theory its gradient is exactly 0, here " +
              number(norms.at("W_k.bias")) + " by rounding, against " + number(norms.at("W_q.bias")) +
              " for the query bias.");
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
