// FeedForward: the two-layer network applied to each token. Vaswani et al. 2017, section 3.3.
#pragma once

#include <optional>

#include "layers/linear.hpp"

namespace surgeon {

// relu, gelu, silu: linear2(f(linear1(x))).  gelu_tanh: the approximation of gelu that GPT-2 uses.
// swiglu: linear2(silu(gate(x)) * linear1(x)). Shazeer 2020, arXiv 2002.05202.
enum class Activation { relu, gelu, gelu_tanh, silu, swiglu };

struct FeedForward {
  // hidden: the width between the two layers; usually 4 d_model, or 8/3 d_model for swiglu.
  FeedForward(std::int64_t d_model, std::int64_t hidden, Rng& rng, Activation activation = Activation::gelu,
              Dtype dtype = Dtype::float32, bool with_bias = true);
  // [..., d_model] -> [..., d_model]. Probes: inner (before the activation), hidden (after it), output.
  Tensor operator()(const Tensor& x) const;
  Parameters parameters() const;   // linear1.*, linear2.*, and gate.* for swiglu

  Activation activation;
  Linear linear1, linear2;
  std::optional<Linear> gate;

 private:
  Tensor activated(const Tensor& x, const Tensor& inner) const;
};

}  // namespace surgeon
