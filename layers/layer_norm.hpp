// LayerNorm and RmsNorm: each vector along the last axis is scaled to a common size, then by a learned gain.
#pragma once

#include <variant>

#include "framework/framework.hpp"
#include "framework/parameters.hpp"

namespace surgeon {

// (x - mean) / sqrt(var + eps) * weight + bias, starting with weight 1 and bias 0. Ba 2016, arXiv 1607.06450.
struct LayerNorm {
  explicit LayerNorm(std::int64_t d_model, Dtype dtype = Dtype::float32, double eps = 1e-5);
  Tensor operator()(const Tensor& x) const;   // [..., d_model]
  Parameters parameters() const;              // weight, bias [d_model]

  Tensor weight, bias;
  double eps;
};

// x / sqrt(mean x^2 + eps) * weight, starting with weight 1. Zhang & Sennrich 2019, arXiv 1910.07467.
struct RmsNorm {
  explicit RmsNorm(std::int64_t d_model, Dtype dtype = Dtype::float32, double eps = 1e-6);
  Tensor operator()(const Tensor& x) const;   // [..., d_model]
  Parameters parameters() const;              // weight [d_model]

  Tensor weight;
  double eps;
};

// Either of them, for models that let you choose.
enum class NormKind { layer, rms };
struct Norm {
  Norm(NormKind kind, std::int64_t d_model, Dtype dtype = Dtype::float32);
  Tensor operator()(const Tensor& x) const;
  Parameters parameters() const;

  std::variant<LayerNorm, RmsNorm> kind;
};

}  // namespace surgeon
