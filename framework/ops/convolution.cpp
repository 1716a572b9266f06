// conv1d as a matrix product over windows, so that its gradient is matrix products too.
#include "framework/errors.hpp"
#include "framework/ops.hpp"
#include "framework/ops/common.hpp"

namespace surgeon {

using namespace ops;

namespace {

// [B, C, T] -> [B, out, C, k]: the k places that each output sees.
Tensor windows(const Tensor& x, Size out, Size k, const Conv1dOptions& options) {
  std::vector<std::int64_t> places;
  for (Size i = 0; i < out; ++i)
    for (Size j = 0; j < k; ++j) places.push_back(i * options.stride + j * options.dilation);
  return permute(take(x, tensor(places, {out, k}), 2), {0, 2, 1, 3});
}

void check(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv1dOptions& o) {
  require_floating("conv1d", x);
  require_same_dtype("conv1d", x, "weight", weight);
  require(x.rank() == 3 && weight.rank() == 3, "conv1d: x ", x.shape(), " and weight ", weight.shape(),
          " must be [B, C, T] and [out, C / groups, k]");
  require(o.stride >= 1 && o.dilation >= 1 && o.padding >= 0 && o.groups >= 1, "conv1d: stride ", o.stride, ", dilation ",
          o.dilation, ", padding ", o.padding, ", groups ", o.groups, "; padding may be 0, the others must be at least 1");
  require(weight.shape(2) >= 1, "conv1d: weight ", weight.shape(), " has an empty window");
  require(x.shape(1) % o.groups == 0 && weight.shape(0) % o.groups == 0 && weight.shape(1) == x.shape(1) / o.groups,
          "conv1d: x ", x.shape(), " with weight ", weight.shape(), " in ", o.groups,
          " groups: weight must be [out, C / groups, k]");
  if (bias.empty()) return;
  require_same_dtype("conv1d", x, "bias", bias);
  require(bias.shape() == Shape{weight.shape(0)}, "conv1d: bias ", bias.shape(), " with weight ", weight.shape());
}

}  // namespace

Tensor conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv1dOptions& options) {
  check(x, weight, bias, options);
  const Size B = x.shape(0), C = weight.shape(1), k = weight.shape(2), G = options.groups, filters = weight.shape(0) / G;
  const Tensor padded = options.padding ? pad(x, {{options.padding, options.padding}}) : x;
  const Size span = options.dilation * (k - 1) + 1, T = padded.shape(2);
  require(T >= span, "conv1d: a window that spans ", span, " of ", T, " places (x ", x.shape(), " with padding ",
          options.padding, ")");
  const Size out = (T - span) / options.stride + 1;
  // [B, G, out, C k] x [G, C k, filters] -> [B, G, out, filters]
  const Tensor seen = permute(reshape(windows(padded, out, k, options), {B, out, G, C * k}), {0, 2, 1, 3});
  const Tensor y = matmul(seen, reshape(weight, {G, filters, C * k}), {.transpose_b = true});
  const Tensor result = reshape(transpose(y, 2, 3), {B, G * filters, out});
  return bias.empty() ? result : result + reshape(bias, {-1, 1});
}

}  // namespace surgeon
