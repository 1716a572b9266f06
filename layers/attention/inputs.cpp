#include "layers/attention/inputs.hpp"

#include <cmath>
#include <cstdlib>
#include <vector>

#include "framework/errors.hpp"
#include "layers/masks.hpp"

namespace surgeon::detail {

namespace {

bool broadcasts(const Shape& from, const Shape& to) {
  if (from.size() > to.size()) return false;
  for (std::size_t back = 1; back <= from.size(); ++back)
    if (from[from.size() - back] != 1 && from[from.size() - back] != to[to.size() - back]) return false;
  return true;
}

template <class T>
void check_zeros_and_ones(const Tensor& mask) {
  for (const T m : mask.values<T>())
    require(m == 0 || m == 1, "attention: a mask holds ", m, ": only 0 and 1 have a meaning");
}

// Boolean, of the mask's own shape.
Tensor visible_by_mask(const Tensor& mask, const Shape& scores) {
  // For 4-D scores three axes could mean batch or heads: only the caller knows.
  require(broadcasts(mask.shape(), scores) && !(mask.rank() == 3 && scores.size() == 4), "attention: a mask ",
          mask.shape(), " does not fit scores ", scores);
  if (mask.dtype() == Dtype::boolean) return mask;
  require(is_floating(mask.dtype()), "attention: a mask of ", mask.dtype(), ": it must be boolean or float 0 and 1");
  mask.dtype() == Dtype::float32 ? check_zeros_and_ones<float>(mask) : check_zeros_and_ones<double>(mask);
  return mask != 0.0;
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

// The start of every complaint. Put together only when there is one: it costs more than a small attention.
struct AllShapes { const Tensor &Q, &K, &V; };
std::ostream& operator<<(std::ostream& out, const AllShapes& s) {
  return out << sentence("attention: Q ", s.Q.shape(), ", K ", s.K.shape(), ", V ", s.V.shape(), ": ");
}

}  // namespace

void check_attention(const Tensor& Q, const Tensor& K, const Tensor& V) {
  for (const Tensor* x : {&Q, &K, &V}) require_value("attention", *x);
  const AllShapes all{Q, K, V};
  require(Q.dtype() == K.dtype() && Q.dtype() == V.dtype() && is_floating(Q.dtype()), "attention: Q, K and V are ",
          Q.dtype(), ", ", K.dtype(), " and ", V.dtype(), ": they must be all float32 or all float64");
  const int rank = Q.rank();
  require((rank == 3 || rank == 4) && K.rank() == rank && V.rank() == rank, all,
          "all must be [batch, T, d] or all [batch, heads, T, d]");
  require(Q.shape(0) == K.shape(0) && Q.shape(0) == V.shape(0), all, "batch sizes ", Q.shape(0), ", ", K.shape(0),
          " and ", V.shape(0), " differ");
  if (rank == 4) {
    require(K.shape(1) == V.shape(1), all, K.shape(1), " heads of keys but ", V.shape(1), " of values");
    require(Q.shape(1) == K.shape(1) || (K.shape(1) > 0 && Q.shape(1) % K.shape(1) == 0), all, K.shape(1),
            " heads of keys do not divide ", Q.shape(1), " heads of queries");
  }
  require(Q.shape(-1) == K.shape(-1), all, "d_k ", Q.shape(-1), " of Q and ", K.shape(-1), " of K differ");
  require(Q.shape(-1) >= 1, all, "d_k is 0");
  require(K.shape(-2) == V.shape(-2), all, K.shape(-2), " keys but ", V.shape(-2), " values");
}

void check_attention_options(const AttentionOptions& options, const Shape& scores, Dtype dtype) {
  require(scores.back() >= 1, "attention: scores ", scores, ": there is no key");
  require(std::isfinite(options.soft_cap) && options.soft_cap >= 0.0, "attention: soft_cap = ", options.soft_cap,
          ": it must be positive, or 0 for none");
  require(options.window >= 0, "attention: window = ", options.window, ": it must be positive, or 0 for none");
  require(options.dropout >= 0.0 && options.dropout <= 1.0, "attention: dropout = ", options.dropout,
          " is not in [0, 1]");
  for (const Tensor* x : {&options.bias, &options.scale.learned()})
    require(x->empty() || x->dtype() == dtype, "attention: the ", x == &options.bias ? "bias" : "scale", " is ",
            x->empty() ? dtype : x->dtype(), " but Q, K and V are ", dtype);
  require(options.bias.empty() || broadcasts(options.bias.shape(), scores), "attention: a bias ", options.bias.shape(),
          " does not fit scores ", scores);
  const Tensor& learned = options.scale.learned();
  const double factor = learned.defined() ? 1.0 : options.scale.factor(1, 2);   // 1 and 2: any sizes will do
  require(std::isfinite(factor), "attention: scale = ", factor, " is not finite");
  require(learned.empty() || learned.size() == 1 || learned.shape() == Shape{scores[scores.size() - 3]},
          "attention: a learned scale ", learned.shape(), " does not fit scores ", scores,
          ": it must be one number, or one per head");
}

Tensor visible_keys(const AttentionOptions& options, const Shape& scores, bool with_causal) {
  const bool causal = options.causal && with_causal;
  Tensor visible;
  if (options.mask.defined()) visible = visible_by_mask(options.mask, scores);
  if (!causal && options.window == 0) return visible;
  const Tensor by_place = visible_by_place(scores[scores.size() - 2], scores.back(), causal, options.window);
  return visible.empty() ? by_place : both(visible, by_place);
}

}  // namespace surgeon::detail
