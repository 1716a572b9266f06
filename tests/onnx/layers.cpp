// ONNX products, norms, losses, pools and attention. Meanings: the operator documents of ONNX 1.12 (opset 17), and for
// what came later those of opset 24.
#include "tests/onnx/operators.hpp"

#include <algorithm>
#include <numeric>

#include "layers/layers.hpp"

namespace surgeon::tests::onnx {
namespace {

Tensor gemm(const Node& node, const List& in) {
  const MatmulOptions flips{node.integer("transA", 0) != 0, node.integer("transB", 0) != 0};
  const Tensor y = matmul(in[0], in[1], flips) * node.real("alpha", 1);
  return given(in, 2) ? y + in[2] * node.real("beta", 1) : y;
}

// Over the axes from `axis` on, which our layer_norm has as one.
List layer_normalization(const Node& node, const List& in) {
  const Tensor& x = in[0];
  const int axis = positive_axis(x, node.integer("axis", -1));
  const Tensor rows = two_axes(x, axis);
  const double eps = node.real("epsilon", 1e-5);
  const Tensor gamma = reshape(in[1], {-1});
  const Tensor beta = given(in, 2) ? reshape(in[2], {-1}) : zeros_like(gamma);
  Shape kept = x.shape();
  std::fill(kept.begin() + axis, kept.end(), 1);
  const Tensor variance = var(rows, {.axes = {1}, .correction = 0});
  return {reshape(layer_norm(rows, gamma, beta, eps), x.shape()), reshape(mean(rows, {1}), kept),
          reshape(1.0 / sqrt(variance + eps), kept)};
}

// [C] as it stands over x [N, C, ...].
Tensor per_channel(const Tensor& v, const Tensor& x) {
  Shape shape(std::size_t(x.rank()), 1);
  shape[1] = v.size();
  return reshape(v, shape);
}

Tensor normalized(const Tensor& x, const Tensor& centre, const Tensor& variance, const Tensor& gamma,
                  const Tensor& beta, double eps) {
  return (x - centre) / sqrt(variance + eps) * per_channel(gamma, x) + per_channel(beta, x);
}

List batch_normalization(const Node& node, const List& in) {
  const Tensor& x = in[0];
  const double eps = node.real("epsilon", 1e-5), keep = node.real("momentum", 0.9);
  if (!node.integer("training_mode", 0))
    return {normalized(x, per_channel(in[3], x), per_channel(in[4], x), in[1], in[2], eps)};
  std::vector<int> axes = spatial(x);
  axes.push_back(0);
  const Tensor centre = mean(x, Over{axes}), variance = var(x, {.axes = axes, .correction = 0});
  return {normalized(x, per_channel(centre, x), per_channel(variance, x), in[1], in[2], eps),
          in[3] * keep + centre * (1 - keep), in[4] * keep + variance * (1 - keep)};
}

Tensor instance_normalization(const Node& node, const List& in) {
  const Tensor& x = in[0];
  const Tensor centre = mean(x, Over{spatial(x), true});
  const Tensor variance = var(x, {.axes = spatial(x), .keepdims = true, .correction = 0});
  return normalized(x, centre, variance, in[1], in[2], node.real("epsilon", 1e-5));
}

// Losses have their classes on axis 1; ours on the last.
Tensor classes_last(Tensor x) {
  for (int a = 1; a + 1 < x.rank(); ++a) x = transpose(x, a, a + 1);
  return x;
}

Tensor weighted_loss(const Node& node, const Tensor& each, const Tensor& kept, const Tensor& weights,
                     const Tensor& target) {
  const std::string how = node.text("reduction", "mean");
  Tensor weight = kept.to(each.dtype());
  if (weights.defined()) weight = weight * take(weights, where(kept, target, zeros_like(target)), 0);
  const Tensor y = each * weight;
  return how == "none" ? y : how == "sum" ? sum(y) : sum(y) / sum(weight);
}

Tensor negative_log_likelihood(const Node& node, const List& in) {
  const Tensor x = classes_last(in[0]);
  const bool ignores = node.has("ignore_index");
  const Tensor kept = ignores ? in[1] != double(node.integer("ignore_index", 0)) : in[1] == in[1];
  const Tensor index = insert_axes(where(kept, in[1], zeros_like(in[1])), {-1});
  return weighted_loss(node, -drop_axes(gather(x, -1, index), {-1}), kept, given(in, 2) ? in[2] : Tensor(), in[1]);
}

List softmax_cross_entropy(const Node& node, const List& in) {
  const std::string how = node.text("reduction", "mean");
  const Tensor log_likelihood = log_softmax(in[0], 1);
  if (given(in, 2)) return {negative_log_likelihood(node, {log_likelihood, in[1], in[2]}), log_likelihood};
  const Reduction reduction = how == "none" ? Reduction::none : how == "sum" ? Reduction::sum : Reduction::mean;
  const CrossEntropyOptions options{.reduction = reduction, .ignore_index = node.integer("ignore_index", -100)};
  return {cross_entropy(classes_last(in[0]), in[1], options), log_likelihood};
}

List dropout_of(const Node& node, const List& in) {
  const bool training = given(in, 2) && in[2].item() != 0;
  const double p = node.has("ratio") ? node.real("ratio", 0.5) : number(in, 1, 0.5);
  need(!training || p == 0, "Dropout in training draws other random numbers");
  Rng rng(1);
  return {dropout(in[0], 0, rng), ones(in[0].shape(), Dtype::boolean)};
}

List rms_normalization(const Node& node, const List& in) {
  const Tensor rows = two_axes(in[0], node.integer("axis", -1));
  return {reshape(rms_norm(rows, reshape(in[1], {-1}), node.real("epsilon", 1e-5)), in[0].shape())};
}

// [B, T, heads * d] with its heads on an axis of their own; 4-D as it is.
Tensor split_heads(const Tensor& x, std::int64_t heads) {
  return x.rank() == 4 ? x : transpose(reshape(x, {x.shape(0), x.shape(1), heads, -1}), 1, 2);
}
Tensor join_heads(const Tensor& x) { return reshape(transpose(x, 1, 2), {x.shape(0), x.shape(2), -1}); }

// Key j is visible to query i up to j = i + past. Ours lets the last query see the last key.
void add_causal(AttentionOptions& options, std::int64_t Tq, std::int64_t Tk, std::int64_t past) {
  if (past + Tq == Tk) {
    options.causal = true;
    return;
  }
  const Tensor i = reshape(arange(Tq), {Tq, 1}), visible = arange(Tk) <= i + double(past);
  options.mask = options.mask.defined() ? options.mask && visible : visible;
}

List attention_of(const Node& node, const List& in) {
  const Tensor Q = split_heads(in[0], node.integer("q_num_heads", 0));
  Tensor K = split_heads(in[1], node.integer("kv_num_heads", 0)), V = split_heads(in[2], node.integer("kv_num_heads", 0));
  const std::int64_t past = given(in, 4) ? in[4].shape(2) : 0;
  if (past > 0) {
    K = concat({in[4], K}, 2);
    V = concat({in[5], V}, 2);
  }
  AttentionOptions options{.return_weights = true, .soft_cap = node.real("softcap", 0)};
  if (node.has("scale")) options.scale = node.real("scale", 1);
  const AttentionOptions product{.scale = options.scale, .return_weights = true},
      capped{.scale = options.scale, .return_weights = true, .soft_cap = options.soft_cap};
  if (given(in, 3)) (in[3].dtype() == Dtype::boolean ? options.mask : options.bias) = in[3];
  if (node.integer("is_causal", 0)) add_causal(options, Q.shape(2), K.shape(2), past);
  const AttentionResult y = attention(Q, K, V, options);
  const std::int64_t mode = node.integer("qk_matmul_output_mode", 0);
  return {in[0].rank() == 3 ? join_heads(y.output) : y.output, K, V,
          mode == 0 ? attention(Q, K, V, product).scores
          : mode == 1 ? attention(Q, K, V, capped).scores
          : mode == 2 ? y.scores : y.weights};
}

// With "base" in place of the caches; see make_onnx_golden.py.
Tensor rotary_embedding(const Node& node, const Tensor& x, const Tensor& positions) {
  need(node.has("base"), "RotaryEmbedding with caches of its own");
  const Tensor y = rotary(split_heads(x, node.integer("num_heads", 0)),
                          {.base = node.real("base", 0), .positions = positions,
                           .pairs = node.integer("interleaved", 0) ? RotaryPairs::interleaved : RotaryPairs::halves,
                           .width = node.integer("rotary_embedding_dim", 0)});
  return x.rank() == 3 ? join_heads(y) : y;
}

}  // namespace

const Operators& layer_operators() {
  static const Operators table = {
    {"MatMul", CALL(matmul(x, y))}, {"Gemm", CALL(gemm(node, in))}, {"Einsum", CALL(einsum(node.text("equation", ""), in))},
    {"LayerNormalization", layer_normalization}, {"BatchNormalization", batch_normalization},
    {"InstanceNormalization", CALL(instance_normalization(node, in))},
    {"MeanVarianceNormalization", [](const Node& node, const List& in) -> List {
         std::vector<int> axes{0, 2, 3};
         if (node.has("axes")) axes.assign(node.integers("axes").begin(), node.integers("axes").end());
         const Tensor variance = var(in[0], {.axes = axes, .keepdims = true, .correction = 0});
         return {(in[0] - mean(in[0], Over{axes, true})) / (sqrt(variance) + 1e-9)};
       }},
    {"NegativeLogLikelihoodLoss", CALL(negative_log_likelihood(node, in))},
    {"SoftmaxCrossEntropyLoss", softmax_cross_entropy}, {"Dropout", dropout_of},
    {"RMSNormalization", rms_normalization}, {"Attention", attention_of},
    {"RotaryEmbedding", CALL(rotary_embedding(node, x, y))},
    {"GlobalAveragePool", CALL(mean(x, Over{spatial(x), true}))},
    {"GlobalMaxPool", CALL(max(x, Over{spatial(x), true}))},
  };
  return table;
}

}  // namespace surgeon::tests::onnx
