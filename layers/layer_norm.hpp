// LayerNorm and RmsNorm: each vector of the last axis brought to one size, then a learned gain.
#pragma once

#include <variant>

#include "framework/framework.hpp"
#include "framework/parameters.hpp"

namespace surgeon {

// (x - mean) / sqrt(var + eps) * weight + bias; weight 1 and bias 0 at first. Ba 2016, arXiv 1607.06450.
struct LayerNorm {
  explicit LayerNorm(std::int64_t d_model, Dtype dtype = Dtype::float32, double eps = 1e-5);
  Tensor operator()(const Tensor& x) const;   // [..., d_model]
  Parameters parameters() const;              // weight, bias [d_model]

  Tensor weight, bias;
  double eps;
};

// x / sqrt(mean x^2 + eps) * weight; weight 1 at first. Zhang & Sennrich 2019, arXiv 1910.07467.
struct RmsNorm {
  explicit RmsNorm(std::int64_t d_model, Dtype dtype = Dtype::float32, double eps = 1e-6);
  Tensor operator()(const Tensor& x) const;
  Parameters parameters() const;              // weight [d_model]

  Tensor weight;
  double eps;
};

// Either, where a model lets one choose.
enum class NormKind { layer, rms };
struct Norm {
  Norm(NormKind kind, std::int64_t d_model, Dtype dtype = Dtype::float32);
  Tensor operator()(const Tensor& x) const;
  Parameters parameters() const;

  std::variant<LayerNorm, RmsNorm> kind;
};

}  // namespace surgeon
