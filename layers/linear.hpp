// Linear: x W^T + b.
#pragma once

#include "framework/framework.hpp"
#include "framework/parameters.hpp"

namespace surgeon {

struct Linear {
  // weight and bias uniform in +-1/sqrt(in), as PyTorch's nn.Linear starts.
  Linear(std::int64_t in, std::int64_t out, Rng& rng, Dtype dtype = Dtype::float32, bool with_bias = true);
  Tensor operator()(const Tensor& x) const;   // [..., in] -> [..., out]
  Parameters parameters() const;              // weight [out, in], bias [out]

  Tensor weight, bias;   // bias is empty when there is none
};

}  // namespace surgeon
