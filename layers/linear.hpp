// Linear: x W^T + b.
#pragma once

#include "framework/framework.hpp"
#include "framework/parameters.hpp"

namespace surgeon {

struct Linear {
  Linear() = default;   // empty: no parameters; a call is refused
  // Weight and bias start uniform in +-1/sqrt(in), like PyTorch's nn.Linear.
  Linear(std::int64_t in, std::int64_t out, Rng& rng, Dtype dtype = Dtype::float32, bool with_bias = true);
  Tensor operator()(const Tensor& x) const;   // [..., in] -> [..., out]
  Parameters parameters() const;              // weight [out, in], bias [out]

  Tensor weight, bias;   // bias is empty without with_bias
};

}  // namespace surgeon
