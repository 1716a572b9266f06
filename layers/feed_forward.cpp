#include "layers/feed_forward.hpp"

#include "framework/probe.hpp"
#include "layers/collect.hpp"

namespace surgeon {

FeedForward::FeedForward(std::int64_t d_model, std::int64_t hidden, Rng& rng, Activation activation_, Dtype dtype,
                         bool with_bias)
    : activation(activation_), linear1(d_model, hidden, rng, dtype, with_bias),
      linear2(hidden, d_model, rng, dtype, with_bias) {
  if (activation == Activation::swiglu) gate.emplace(d_model, hidden, rng, dtype, with_bias);
}

Tensor FeedForward::operator()(const Tensor& x) const {
  const Tensor inner = probe("inner", linear1(x));
  return probe("output", linear2(probe("hidden", activated(x, inner))));
}

Tensor FeedForward::activated(const Tensor& x, const Tensor& inner) const {
  switch (activation) {
    case Activation::relu: return relu(inner);
    case Activation::gelu: return gelu(inner);
    case Activation::gelu_tanh: return gelu(inner, Gelu::tanh);
    case Activation::silu: return silu(inner);
    default: return silu((*gate)(x)) * inner;
  }
}

Parameters FeedForward::parameters() const {
  return collect("linear1", linear1, "linear2", linear2, "gate", gate);
}

}  // namespace surgeon
