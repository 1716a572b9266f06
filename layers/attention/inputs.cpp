#include "layers/attention/inputs.hpp"

#include <cmath>
#include <cstdlib>
#include <vector>

#include "framework/errors.hpp"
#include "layers/masks.hpp"

namespace surgeon::detail {

namespace {

// Boolean, of the mask's own shape.
Tensor visible_by_mask(const Tensor& mask, const Shape& scores) {
  // For 4-D scores three axes could mean batch or heads: only the caller knows.
  require(broadcasts_to(mask.shape(), scores) && !(mask.rank() == 3 && scores.size() == 4), "attention: a mask ",
          mask.shape(), " does not fit scores ", scores);
  return boolean_mask("attention", mask);
}

Tensor visible_by_place(std::int64_t Tq, std::int64_t Tk, bool causal, std::int64_t window) {
  std::vector<unsigned char> visible(static_cast<std::size_t>(count({Tq, Tk})));
  for (std::int64_t i = 0; i < Tq; ++i)
    for (std::int64_t j = 0; j < Tk; ++j) {
      const std::int64_t back = i + Tk - Tq - j;
      const bool ahead = causal && back < 0, far = window > 0 && std::abs(back) >= window;
      visible[static_cast<std::size_t>(i * Tk + j)] = !ahead && !far;
    }
  return tensor(visible, {Tq, Tk});
}

}  // namespace

void check_attention_options(const AttentionOptions& options, const Shape& scores, Dtype dtype) {
  require(scores.back() >= 1, "attention: scores ", scores, ": there are no keys");
  require(std::isfinite(options.soft_cap) && options.soft_cap >= 0.0, "attention: soft_cap = ", options.soft_cap,
          " must be positive, or 0 for no cap");
  require(options.window >= 0, "attention: window = ", options.window, " must be positive, or 0 for no window");
  require(options.dropout >= 0.0 && options.dropout <= 1.0, "attention: dropout = ", options.dropout,
          " must be between 0 and 1");
  for (const Tensor* x : {&options.bias, &options.scale.learned()})
    require(x->empty() || x->dtype() == dtype, "attention: the ", x == &options.bias ? "bias" : "scale", " is ",
            x->empty() ? dtype : x->dtype(), " but Q, K and V are ", dtype);
  require(options.bias.empty() || broadcasts_to(options.bias.shape(), scores), "attention: a bias ", options.bias.shape(),
          " does not fit scores ", scores);
  const Tensor& learned = options.scale.learned();
  const double factor = learned.defined() ? 1.0 : options.scale.factor(1, 2);   // 1 and 2: any sizes will do
  require(std::isfinite(factor), "attention: scale = ", factor, " must be finite");
  require(learned.empty() || learned.size() == 1 || learned.shape() == Shape{scores[scores.size() - 3]},
          "attention: a learned scale ", learned.shape(), " does not fit scores ", scores,
          ": needs one number, or one for each head");
}

Tensor visible_keys(const AttentionOptions& options, const Shape& scores, Causal with) {
  const bool causal = options.causal && with == Causal::included;
  Tensor visible;
  if (options.mask.defined()) visible = visible_by_mask(options.mask, scores);
  if (!causal && options.window == 0) return visible;
  const Tensor by_place = visible_by_place(scores[scores.size() - 2], scores.back(), causal, options.window);
  return visible.empty() ? by_place : both(visible, by_place);
}

}  // namespace surgeon::detail
