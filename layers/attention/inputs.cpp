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

Tensor with_places(const Tensor& by_mask, const Tensor& by_place) {
  return by_mask.empty() ? by_place : both(by_mask, by_place);
}

}  // namespace

Tensor visible_by_place(const AttentionOptions& options, std::int64_t Tq, std::int64_t Tk, std::int64_t first,
                        std::int64_t n) {
  std::vector<unsigned char> visible(static_cast<std::size_t>(count({n, Tk})));
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < Tk; ++j) {
      const std::int64_t back = first + i + Tk - Tq - j;
      const bool ahead = options.causal && back < 0, far = options.window > 0 && std::abs(back) >= options.window;
      visible[static_cast<std::size_t>(i * Tk + j)] = !ahead && !far;
    }
  return tensor(visible, {n, Tk});
}

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
  require(!options.return_stats || options.weighting == Weighting::softmax,
          "attention: return_stats needs softmax: its statistics are those of softmax alone");
  const Tensor& learned = options.scale.learned();
  const double factor = learned.defined() ? 1.0 : options.scale.factor(1, 2);   // 1 and 2: any sizes will do
  require(std::isfinite(factor), "attention: scale = ", factor, " must be finite");
  require(learned.empty() || learned.size() == 1 || learned.shape() == Shape{scores[scores.size() - 3]},
          "attention: a learned scale ", learned.shape(), " does not fit scores ", scores,
          ": needs one number, or one for each head");
}

Tensor visible_keys(const AttentionOptions& options, const Shape& scores, Causal with) {
  Tensor visible;
  if (options.mask.defined()) visible = visible_by_mask(options.mask, scores);
  AttentionOptions places{.causal = options.causal && with == Causal::included, .window = options.window};
  if (!places.causal && places.window == 0) return visible;
  return with_places(visible, visible_by_place(places, scores[scores.size() - 2], scores.back(), 0, scores[scores.size() - 2]));
}

Tensor visible_to(const AttentionOptions& options, const Shape& scores, std::int64_t first, std::int64_t n) {
  Tensor visible;
  if (options.mask.defined()) visible = rows_of(visible_by_mask(options.mask, scores), first, n);
  if (!options.causal && options.window == 0) return visible;
  return with_places(visible, visible_by_place(options, scores[scores.size() - 2], scores.back(), first, n));
}

Tensor rows_of(const Tensor& x, std::int64_t first, std::int64_t n) {
  return x.rank() < 2 || x.shape(-2) == 1 ? x : slice(x, -2, first, first + n);
}

}  // namespace surgeon::detail
