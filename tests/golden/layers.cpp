// Score rules of attention, and layers with parameters: the case names them, and they are assigned.
#include <algorithm>
#include <functional>
#include <map>
#include <stdexcept>

#include "tests/golden/calls.hpp"

namespace surgeon::tests {

AttentionOptions golden_rules(const Json& o, const std::vector<Tensor>& in, Dtype dtype) {
  AttentionOptions options{.causal = o.value("causal", false), .window = o.value("window", 0),
                           .soft_cap = o.value("soft_cap", 0.0)};
  const Json scale = o.value("scale", Json(true));
  options.scale = scale.is_boolean()  ? Scale(scale.get<bool>())
                  : scale.is_number() ? Scale(scale.get<double>())
                  : scale == "log_n"  ? Scale::log_n() : Scale::inverse();
  const std::string qk_norm = o.value("qk_norm", "none"), weighting = o.value("weighting", "softmax");
  options.qk_norm = qk_norm == "l2" ? QkNorm::l2 : qk_norm == "rms" ? QkNorm::rms : QkNorm::none;
  options.weighting = weighting == "sigmoid"      ? Weighting::sigmoid
                      : weighting == "off_by_one" ? Weighting::off_by_one : Weighting::softmax;
  if (o.contains("sigmoid_bias")) options.sigmoid_bias = o["sigmoid_bias"].get<double>();
  const std::vector<std::string> names = o.value("names", std::vector<std::string>{});
  for (std::size_t i = 0; i < names.size() && i + 3 < in.size(); ++i) {
    if (names[i] == "mask") options.mask = in[3 + i];
    if (names[i] == "bias") options.bias = in[3 + i].to(dtype);
    if (names[i] == "scale") options.scale = Scale(in[3 + i]);
  }
  return options;
}
namespace {

using List = std::vector<Tensor>;

// The inputs after the first ones are the parameters, in the order of the case's names.
List assigned(const Parameters& parameters, const List& in, std::size_t first, const Json& o) {
  List targets;
  for (const Json& name : o.at("names")) {
    targets.push_back(parameters[name.get<std::string>()]);
    targets.back().assign(in[first++]);
  }
  if (parameters.size() != targets.size()) throw std::logic_error("the case and the layer differ in their parameters");
  return targets;
}

Activation activation(const Json& o) {
  const std::string name = o.value("activation", "gelu");
  return name == "relu" ? Activation::relu : name == "swiglu" ? Activation::swiglu
       : name == "gelu_tanh" ? Activation::gelu_tanh : Activation::gelu;
}

// Sizes are read off the parameters' shapes.
const Tensor& named(const List& in, std::size_t first, const Json& o, const std::string& name) {
  const Json& names = o.at("names");
  return in.at(first + std::size_t(std::find(names.begin(), names.end(), name) - names.begin()));
}
bool has(const Json& o, const std::string& name) {
  return std::find(o.at("names").begin(), o.at("names").end(), name) != o.at("names").end();
}

BlockConfig block_config(const List& in, std::size_t first, const Json& o, const std::string& prefix, Dtype dtype) {
  BlockConfig config{.heads = o.at("heads"), .activation = activation(o), .dtype = dtype};
  const Tensor& linear1 = named(in, first, o, prefix + "feed_forward.linear1.weight");
  config.d_model = linear1.shape(1);
  config.hidden = linear1.shape(0);
  config.norm_place = o.value("norm_place", "pre") == "pre" ? NormPlace::pre : NormPlace::post;
  config.norm = has(o, prefix + "norm1.bias") ? NormKind::layer : NormKind::rms;
  config.projections.kv_heads = o.value("kv_heads", 0);
  config.projections.bias = has(o, prefix + "attention.W_q.bias");
  config.projections.rotary_base = o.value("rotary_base", 0.0);
  if (has(o, prefix + "attention.scale")) config.projections.learned_scale = 1.0;
  return config;
}

Answer feed_forward_layer(const List& in, const Json& o) {
  Rng rng(1);
  const Tensor& linear1 = named(in, 1, o, "linear1.weight");
  const FeedForward layer(linear1.shape(1), linear1.shape(0), rng, activation(o), in[0].dtype());
  List targets = assigned(layer.parameters(), in, 1, o);
  targets.insert(targets.begin(), in[0]);
  return {{layer(in[0])}, targets};
}

Answer block_layer(const List& in, const Json& o) {
  Rng rng(1);
  const TransformerBlock layer(block_config(in, 1, o, "", in[0].dtype()), rng);
  List targets = assigned(layer.parameters(), in, 1, o);
  targets.insert(targets.begin(), in[0]);
  return {{layer(in[0], golden_rules(o, {}, in[0].dtype())).output}, targets};
}

Answer transformer_loss(const List& in, const Json& o) {
  Rng rng(1);
  const Tensor& embedding = in[2];
  const std::map<std::string, Positions> positions = {{"none", Positions::none}, {"learned", Positions::learned},
      {"sinusoidal", Positions::sinusoidal}, {"rotary", Positions::rotary}, {"alibi", Positions::alibi}};
  TransformerConfig config{.vocabulary = embedding.shape(0), .layers = o.at("layers")};
  config.context = has(o, "positions.weight") ? named(in, 2, o, "positions.weight").shape(0) : in[0].shape(1);
  config.block = block_config(in, 2, o, "blocks.0.", embedding.dtype());
  config.positions = positions.at(o.at("positions"));
  config.causal = o.value("causal", true);
  config.tied = !has(o, "head.weight");
  config.attention = golden_rules(o, {}, embedding.dtype());
  const Transformer model(config, rng);
  const List targets = assigned(model.parameters(), in, 2, o);
  return {{cross_entropy(model(in[0]), in[1])}, targets};
}

Answer cross_attention(const List& in, const Json& o) {
  Rng rng(1);
  const MultiHeadAttention layer(in[0].shape(-1), o.at("heads"), rng, in[0].dtype());
  List targets = assigned(layer.parameters(), in, 2, o);
  targets.insert(targets.begin(), {in[0], in[1]});
  const Side padded = o.at("padded") == "left" ? Side::left : Side::right;
  const Tensor mask = padding_mask(o.at("lengths").get<std::vector<std::int64_t>>(), in[1].shape(1), padded);
  return {{layer(in[0], in[1], {.mask = mask}).output}, targets};
}

Answer rotary_by_positions(const List& in, const Json& o) {
  const RotaryPairs pairs = o.at("pairs") == "halves" ? RotaryPairs::halves : RotaryPairs::interleaved;
  return {{rotary(in[0], {.base = o.at("base"), .positions = in[1], .pairs = pairs, .width = o.at("width")})}, {in[0]}};
}

const std::map<std::string, std::function<Answer(const List&, const Json&)>> layers_by_name = {
    {"feed_forward", feed_forward_layer}, {"transformer_block", block_layer}, {"transformer_loss", transformer_loss},
    {"cross_attention", cross_attention}, {"rotary", rotary_by_positions}};

}  // namespace

bool golden_is_layer(const std::string& op) { return layers_by_name.contains(op); }
Answer golden_layer(const std::string& op, const std::vector<Tensor>& inputs, const Json& options) {
  return layers_by_name.at(op)(inputs, options);
}

}  // namespace surgeon::tests
