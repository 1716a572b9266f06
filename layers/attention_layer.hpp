// AttentionLayer: an attention layer of one's own in the place of MultiHeadAttention (BlockConfig::make_attention).
#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <utility>

#include "framework/parameters.hpp"
#include "layers/attention.hpp"
#include "layers/key_value_cache.hpp"

namespace surgeon {

// Holds any layer that has
//   layer(x, options)               x [B, T, d_model] -> a Tensor of the same shape, or an AttentionResult with such an
//                                   output. Of the options (causal, mask, bias, window, ...) it follows those it knows.
//   layer.parameters()
//   layer.step(x, cache, options)   optional: x follows the tokens in a KeyValueCache&, and is added to it. What its K
//                                   and V hold is up to the layer.
struct AttentionLayer {
  template <class Layer>
    requires(!std::same_as<Layer, AttentionLayer> &&
             requires(const Layer& layer, const Tensor& x, const AttentionOptions& options) {
               layer(x, options);
               { layer.parameters() } -> std::convertible_to<Parameters>;
             })
  AttentionLayer(Layer own) {
    const auto layer = std::make_shared<const Layer>(std::move(own));
    forward = [layer](const Tensor& x, const AttentionOptions& options) { return result((*layer)(x, options)); };
    parameters = [layer] { return layer->parameters(); };
    if constexpr (requires(const Tensor& x, KeyValueCache& cache) { layer->step(x, cache, AttentionOptions{}); })
      step = [layer](const Tensor& x, KeyValueCache& cache, const AttentionOptions& options) {
        return result(layer->step(x, cache, options));
      };
  }

  std::function<AttentionResult(const Tensor& x, const AttentionOptions& options)> forward;
  std::function<AttentionResult(const Tensor& x, KeyValueCache& cache, const AttentionOptions& options)> step;
  std::function<Parameters()> parameters;

 private:
  static AttentionResult result(AttentionResult made) { return made; }
  static AttentionResult result(Tensor output) { return {std::move(output), {}, {}}; }
};

}  // namespace surgeon
