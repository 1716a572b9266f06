// A published model on the table: the two attention blocks of PP-OCRv4's recogniser of Chinese text, which ends in a
// small Transformer (SVTR; Du et al. 2022, arXiv 2205.00159). Looked at, and operated on. real_model.sh fetches it.
#include <cmath>
#include <iostream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "experiments/figures.hpp"
#include "experiments/lab.hpp"
#include "framework/diagnostics.hpp"
#include "framework/framework.hpp"
#include "framework/probe.hpp"
#include "framework/serialize.hpp"
#include "layers/layers.hpp"

namespace surgeon::experiments {
namespace {

constexpr std::int64_t d_model = 120, heads = 8, d_k = d_model / heads, hidden = 240;

struct Knobs { std::string file = {}; std::int64_t tokens = 40, draws = 8; };

void options(Options& o, Knobs& k) {
  o.add("file", k.file, "ch_PP-OCRv4_rec_infer.onnx", {.required = true});
  o.add("--tokens", k.tokens, "places in a line of text", {.low = 2, .high = 1000});
  o.add("--draws", k.draws, "random inputs", {.low = 1, .high = 1000});
}

// ---- The patient ---------------------------------------------------------------------------------------------------

struct Recogniser {
  std::vector<TransformerBlock> blocks;
  LayerNorm norm{d_model};

  Tensor operator()(const Tensor& x, const AttentionOptions& rules = {}) const {
    Tensor y = x;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const ProbeScope block("block" + std::to_string(i));
      y = blocks[i](y, rules).output;
    }
    return norm(y);
  }
};

// The names of Paddle's exporter count layers: 43 norms and 77 linear layers come before these blocks.
Parameters block_weights(const Parameters& w, int block) {
  const auto linear = [&](int i) { return "linear_" + std::to_string(77 + 4 * block + i); };
  const auto norm = [&](int i) { return "layer_norm_" + std::to_string(43 + 2 * block + i); };
  const auto turned = [&](const std::string& name) { return transpose(w[name + ".w_0"], 0, 1); };   // from [in, out]
  Parameters ours;
  for (int i : {0, 1}) {
    ours.add(fmt::format("norm{}.weight", i + 1), w[norm(i) + ".w_0"]);
    ours.add(fmt::format("norm{}.bias", i + 1), w[norm(i) + ".b_0"]);
  }
  for (std::int64_t part = 0; part < 3; ++part) {   // Q, K and V in one
    const std::string name = fmt::format("attention.W_{}.", "qkv"[part]);
    ours.add(name + "weight", slice(turned(linear(0)), 0, part * d_model, (part + 1) * d_model));
    ours.add(name + "bias", slice(w[linear(0) + ".b_0"], 0, part * d_model, (part + 1) * d_model));
  }
  const char* names[] = {"", "attention.W_o", "feed_forward.linear1", "feed_forward.linear2"};
  for (int i : {1, 2, 3}) {
    ours.add(names[i] + std::string(".weight"), turned(linear(i)));
    ours.add(names[i] + std::string(".bias"), w[linear(i) + ".b_0"]);
  }
  return ours;
}

Recogniser read(const std::string& file) {
  const Parameters w = load_onnx(file);
  Rng unused(0);   // every weight is set
  const BlockConfig config{.d_model = d_model, .heads = heads, .hidden = hidden, .activation = Activation::silu};
  Recogniser model;
  for (int block : {0, 1}) {
    model.blocks.emplace_back(config, unused);
    assign_all(model.blocks.back().parameters(), block_weights(w, block));
  }
  assign_all(model.norm.parameters(), {{"weight", w["layer_norm_47.w_0"]}, {"bias", w["layer_norm_47.b_0"]}});
  return model;
}

// ---- Looking -------------------------------------------------------------------------------------------------------

// The weights of one head by the definition, number by number, in float64. Q, K [T, heads * d_k] of one sequence.
double distance_from_definition(const Tensor& Q, const Tensor& K, const Tensor& weights, std::int64_t head) {
  const std::int64_t T = Q.shape(0);
  double worst = 0;
  for (std::int64_t i = 0; i < T; ++i) {
    std::vector<double> e(std::size_t(T), 0.0);
    double sum = 0;
    for (std::int64_t j = 0; j < T; ++j) {
      double product = 0;
      for (std::int64_t c = head * d_k; c < (head + 1) * d_k; ++c) product += Q.at({i, c}) * K.at({j, c});
      sum += e[std::size_t(j)] = std::exp(product / std::sqrt(double(d_k)));
    }
    for (std::int64_t j = 0; j < T; ++j)
      worst = std::max(worst, std::abs(e[std::size_t(j)] / sum - weights.at({head, i, j})));
  }
  return worst;
}

void look(Lab& lab, const Recogniser& model, const Tensor& x) {
  const Probe probe("*attention.*");
  (void)model(x);
  Table table{"Heads", {"block", "head", "entropy", "largest weight", "dead rows"}, {}};
  double worst = 0;
  for (int block : {0, 1}) {
    const std::string where = fmt::format("block{}.attention.", block);
    const Tensor Q = reshape(probe[where + "Q"], {-1, d_model}), K = reshape(probe[where + "K"], {-1, d_model});
    const Tensor& weights = probe[where + "weights"];   // [heads, T, T]
    Figure figure{.name = fmt::format("block{}", block),
                  .title = fmt::format("Block {}: what each head attends to", block),
                  .columns = 4};
    for (std::int64_t h = 0; h < heads; ++h) {
      worst = std::max(worst, distance_from_definition(Q, K, weights, h));
      const Tensor map = slice(weights, 0, h, h + 1);
      const double spread = mean(tensor(entropy(map), {map.shape(1)})).item(), most = max(map).item(),
                   dead = share_below(softmax_jacobian_norm(map), 1e-3);
      table.rows.push_back({std::to_string(block), std::to_string(h), fixed(spread, 2), fixed(most, 3), number(dead)});
      lab.row({{"what", "head"}, {"block", std::int64_t(block)}, {"head", h}, {"entropy", spread}, {"largest", most},
               {"dead_rows", dead}});
      Heatmap drawn = heatmap_of(weights, h);
      drawn.title = "head " + std::to_string(h);
      drawn.decimals = -1;
      figure.panels.push_back(drawn);
    }
    lab.draw(figure);
  }
  lab.show(table);
  lab.result("distance_from_definition", worst);
  lab.check(worst < 1e-6,
            fmt::format("all {} maps are those of the definition within 1e-6 ({})", 2 * heads, number(worst)));
}

// ---- Operating -----------------------------------------------------------------------------------------------------

struct Operation {
  std::string name;
  std::function<Tensor(const Recogniser&, const Tensor& x)> output;
};

Tensor without_head(const Recogniser& model, const Tensor& x, int block, std::int64_t head) {
  const Tensor column = arange(d_model);
  const Tensor own = column >= double(head * d_k) && column < double((head + 1) * d_k);
  const Probe ablate(fmt::format("block{}.attention.heads", block),
                     [own](const std::string&, const Tensor& joined) { return masked_fill(joined, own, 0.0); });
  return model(x);
}

// The second block's projections in the place of the first block's.
Tensor transplanted(const Recogniser& model, const Tensor& x) {
  Recogniser other = model;
  other.blocks[0].attention = model.blocks[1].attention;
  return other(x);
}

std::vector<Operation> operations(std::int64_t tokens) {
  std::vector<Operation> all;
  for (int block : {0, 1})
    for (std::int64_t head = 0; head < heads; ++head)
      all.push_back({fmt::format("without head {} of block {}", head, block),
                     [=](const Recogniser& m, const Tensor& x) { return without_head(m, x, block, head); }});
  const auto with = [](AttentionOptions rules) {
    return [rules](const Recogniser& m, const Tensor& x) { return m(x, rules); };
  };
  all.push_back({"without 1/sqrt(15)", with({.scale = false})});
  all.push_back({"causal mask", with({.mask = causal_mask(tokens)})});
  all.push_back({"reversed mask", with({.mask = reverse_mask(tokens)})});
  all.push_back({"block 1's attention in block 0", transplanted});
  return all;
}

void run(Lab& lab, const Knobs& k) {
  const NoRecord pause;
  const Recogniser model = read(k.file);
  Rng rng = lab.rng();
  std::vector<Tensor> inputs;
  for (std::int64_t i = 0; i < k.draws; ++i) inputs.push_back(randn({1, k.tokens, d_model}, rng));
  lab.say("Inputs are drawn from N(0,1): the convolutions that come before these blocks are not run.");
  look(lab, model, inputs[0]);
  Table table{"Operations", {"operation", "change of the output", "standard error"}, {}};
  std::string worst;
  double largest_change = 0;
  for (const Operation& operation : operations(k.tokens)) {
    std::vector<double> changes;
    for (const Tensor& x : inputs) {
      const Tensor y = model(x);
      changes.push_back(norm(operation.output(model, x) - y) / norm(y));
    }
    const Statistics s = statistics(changes);
    table.rows.push_back({operation.name, fmt::format("{:.1f} %", 100 * s.mean), fmt::format("{:.1f} %", 100 * s.se)});
    lab.row(Row{{"what", "operation"}, {"operation", operation.name}} + s);
    if (s.mean > largest_change) {
      largest_change = s.mean;
      worst = operation.name;
    }
  }
  lab.show(table);
  lab.verdict(fmt::format("The output changes most by this operation: {} ({:.0f} % of its norm).", worst,
                          100 * largest_change));
}

}  // namespace
}  // namespace surgeon::experiments

int main(int count, char** words) {
  using namespace surgeon;
  const Experiment patient{"recogniser", "What do the heads of a published text recogniser do?",
                           "Reads the two attention blocks of PP-OCRv4's recogniser, holds their maps against the "
                           "definition, then removes heads, the scale and the order of tokens, and measures what "
                           "changes.",
                           {"real_model recogniser ch_PP-OCRv4_rec_infer.onnx"},
                           knobs<experiments::Knobs>(experiments::options, experiments::run)};
  return surgeon_command({patient}, {words + 1, words + count}, std::cout, std::cerr, "real_model");
}
