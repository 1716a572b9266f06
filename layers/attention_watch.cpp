#include "layers/attention_watch.hpp"

#include "framework/errors.hpp"

namespace surgeon {

namespace {

// What a specimen cannot hold is refused.
Specimen rules_only(const AttentionOptions& rules) {
  require(rules.weighting == Weighting::softmax,
          "AttentionWatch: these weights are not softmax's, and a specimen's are");
  require(rules.dropout == 0.0 || !rules.rng, "AttentionWatch: there is dropout in this pass; watch one without it");
  Specimen s{.mask = rules.mask, .bias = rules.bias, .scale = rules.scale, .causal = rules.causal,
             .window = rules.window, .soft_cap = rules.soft_cap};
  if (s.mask.rank() == 3) s.mask = reshape(s.mask, {s.mask.shape(0), 1, s.mask.shape(1), s.mask.shape(2)});
  if (s.bias.rank() == 3) s.bias = reshape(s.bias, {1, s.bias.shape(0), s.bias.shape(1), s.bias.shape(2)});
  return s;
}

// Heads apart, at their positions. A rotation's derivative is the rotation: gradients turn as what they belong to.
Tensor turned(const Tensor& x, const MultiHeadAttention& layer, std::int64_t heads) {
  const Tensor apart = heads_apart(x, heads);
  if (layer.rotary_base <= 0.0) return apart;
  return rotary(apart, {.base = layer.rotary_base, .pairs = layer.rotary_pairs, .width = layer.rotary_width});
}

}  // namespace

// Empty where a layer runs alone, outside of a block, whose probe it is.
Tensor AttentionWatch::input_of(const std::string& scope) const {
  for (const auto& [name, x] : input_.seen())
    if (name == scope + "input") return x;
  return {};
}

std::vector<Specimen> AttentionWatch::all(const std::vector<Layer>& layers, const AttentionOptions& rules,
                                          const Tensor& loss) const {
  std::vector<Tensor> passed, gradients;   // four of each layer
  for (const Layer& at : layers)
    for (const auto& [probe, name] : {std::pair{&Q_, "Q"}, {&K_, "K"}, {&V_, "V"}, {&heads_, "heads"}})
      passed.push_back((*probe)[at.scope + name]);
  if (loss.defined()) gradients = grad(loss, passed, {.allow_unused = true});
  const NoRecord pause;
  std::vector<Specimen> specimens;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const MultiHeadAttention& layer = *layers[i].layer;
    const auto part = [&](const std::vector<Tensor>& of, std::size_t k) {
      const bool queries = k == 0 || k == 3;
      const std::int64_t heads = queries ? layer.num_heads : layer.kv_heads;
      return k < 2 ? turned(of[4 * i + k], layer, heads) : heads_apart(of[4 * i + k], heads);
    };
    Specimen s = rules_only(rules);
    s.name = layers[i].scope.substr(0, layers[i].scope.find(".attention."));
    s.Q = part(passed, 0), s.K = part(passed, 1), s.V = part(passed, 2), s.output = part(passed, 3);
    if (loss.defined()) s.dO = part(gradients, 3), s.dV = part(gradients, 2);
    if (rules.qk_norm != QkNorm::none)
      s.Q = detail::normalised(s.Q, rules.qk_norm), s.K = detail::normalised(s.K, rules.qk_norm);
    else if (loss.defined())
      s.dQ = part(gradients, 0), s.dK = part(gradients, 1);
    const bool as_projected = layer.rotary_base <= 0.0 && rules.qk_norm == QkNorm::none && layer.scale.empty();
    if (as_projected && loss.defined()) s.X = input_of(layers[i].scope);
    if (layer.scale.defined()) {
      const Tensor by_head = reshape(layer.scale, {layer.num_heads, 1, 1});
      s.Q = s.Q * by_head;
      if (s.dQ.defined()) s.dQ = s.dQ / by_head;
      s.scale = false;
    }
    check(s);
    specimens.push_back(std::move(s));
  }
  return specimens;
}

std::vector<Specimen> AttentionWatch::specimens(const Transformer& model, const Tensor& loss,
                                                const ForwardOptions& call) const {
  std::vector<Layer> layers;
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    require(!model.blocks[i].own_attention, "AttentionWatch: block ", i, " has an attention layer of its own");
    layers.push_back({sentence("blocks.", i, ".attention."), &model.blocks[i].attention});
  }
  if (layers.empty()) return {};
  AttentionOptions rules = model.rules(Q_["blocks.0.attention.Q"].shape(1), call);
  if (rules.dropout == 0.0) rules.dropout = model.config.block.dropout;   // as each block does
  return all(layers, rules, loss);
}

Specimen AttentionWatch::specimen(const MultiHeadAttention& layer, const AttentionOptions& rules, const Tensor& loss,
                                  const std::string& scope) const {
  return all({{scope.empty() ? "" : scope + ".", &layer}}, rules, loss)[0];
}

}  // namespace surgeon
