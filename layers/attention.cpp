// The plain path of attention, with scores and weights as tensors, and every score rule.
#include "layers/attention.hpp"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "framework/require.hpp"
#include "layers/masked_products.hpp"

namespace surgeon {

using detail::require;

namespace {

void check_shapes(const Tensor& Q, const Tensor& K, const Tensor& V) {
  for (const Tensor* x : {&Q, &K, &V}) detail::require_value("attention", *x);
  const auto all = [&] { return detail::join("attention: Q ", Q.shape(), ", K ", K.shape(), ", V ", V.shape(), ": "); };
  require(Q.dtype() == K.dtype() && Q.dtype() == V.dtype() && is_floating(Q.dtype()), "attention: Q, K and V are ",
          Q.dtype(), ", ", K.dtype(), " and ", V.dtype(), ": they must be all float32 or all float64");
  const int rank = Q.rank();
  require((rank == 3 || rank == 4) && K.rank() == rank && V.rank() == rank, all(),
          "all must be [batch, T, d] or all [batch, heads, T, d]");
  require(Q.shape(0) == K.shape(0) && Q.shape(0) == V.shape(0), all(), "batch sizes ", Q.shape(0), ", ", K.shape(0),
          " and ", V.shape(0), " differ");
  if (rank == 4) {
    require(K.shape(1) == V.shape(1), all(), K.shape(1), " heads of keys but ", V.shape(1), " of values");
    require(Q.shape(1) == K.shape(1) || (K.shape(1) > 0 && Q.shape(1) % K.shape(1) == 0), all(), K.shape(1),
            " heads of keys do not divide ", Q.shape(1), " heads of queries");
  }
  require(Q.shape(-1) == K.shape(-1), all(), "d_k ", Q.shape(-1), " of Q and ", K.shape(-1), " of K differ");
  require(Q.shape(-1) >= 1, all(), "d_k is 0");
  require(K.shape(-2) == V.shape(-2), all(), K.shape(-2), " keys but ", V.shape(-2), " values");
  require(K.shape(-2) >= 1, all(), "there is no key");
}

bool broadcasts(const Shape& from, const Shape& to) {
  if (from.size() > to.size()) return false;
  for (std::size_t back = 1; back <= from.size(); ++back)
    if (from[from.size() - back] != 1 && from[from.size() - back] != to[to.size() - back]) return false;
  return true;
}

void check_options(const AttentionOptions& options, const Shape& scores, Dtype dtype) {
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
  require(learned.empty() || learned.size() == 1 || learned.shape() == Shape{scores[scores.size() - 3]},
          "attention: a learned scale ", learned.shape(), " does not fit scores ", scores,
          ": it must be one number, or one per head");
}

template <class T>
void check_zeros_and_ones(const Tensor& mask) {
  for (const T m : mask.values<T>())
    require(m == 0 || m == 1, "attention: a mask holds ", m, ": only 0 and 1 have a meaning");
}

// Where the mask forbids: boolean, of the mask's own shape.
Tensor hidden_by_mask(const Tensor& mask, const Shape& scores) {
  // For 4-D scores three axes could mean batch or heads: only the caller knows.
  require(broadcasts(mask.shape(), scores) && !(mask.rank() == 3 && scores.size() == 4), "attention: a mask ",
          mask.shape(), " does not fit scores ", scores);
  if (mask.dtype() == Dtype::boolean) return !mask;
  require(is_floating(mask.dtype()), "attention: a mask of ", mask.dtype(), ": it must be boolean or float 0 and 1");
  mask.dtype() == Dtype::float32 ? check_zeros_and_ones<float>(mask) : check_zeros_and_ones<double>(mask);
  return mask == 0.0;
}

Tensor hidden_by_place(std::int64_t Tq, std::int64_t Tk, bool causal, std::int64_t window) {
  std::vector<unsigned char> hidden(static_cast<std::size_t>(count({Tq, Tk})));
  for (std::int64_t i = 0; i < Tq; ++i)
    for (std::int64_t j = 0; j < Tk; ++j) {
      const std::int64_t back = i + Tk - Tq - j;
      hidden[static_cast<std::size_t>(i * Tk + j)] = (causal && back < 0) || (window > 0 && std::abs(back) >= window);
    }
  return tensor(hidden, {Tq, Tk});
}

// True where query i does not see key j; broadcasts to the scores. Empty when all is seen.
Tensor hidden_positions(const AttentionOptions& options, const Shape& scores) {
  Tensor hidden;
  if (options.mask.defined()) hidden = hidden_by_mask(options.mask, scores);
  if (!options.causal && options.window == 0) return hidden;
  const Tensor by_place =
      hidden_by_place(scores[scores.size() - 2], scores[scores.size() - 1], options.causal, options.window);
  return hidden.empty() ? by_place : hidden >= !by_place;   // either
}

// x with zeros where no score reads it, so that a nan there has no derivative either. axis: the one of the others.
Tensor clear_unread(const Tensor& x, const Tensor& hidden, int axis) {
  if (hidden.empty()) return x;
  const Tensor table = hidden.rank() < 2 ? reshape(hidden, {1, hidden.size()}) : hidden;
  const Tensor readers = sum(!table, Over{{axis}, true});
  return masked_fill(x, (axis == -2 ? transpose(readers, -1, -2) : readers) == 0.0, 0.0);
}

Tensor normalised(const Tensor& x, QkNorm norm) {
  const double gain = norm == QkNorm::l2 ? 1.0 / std::sqrt(double(x.shape(-1))) : 1.0;
  return rms_norm(x, full({x.shape(-1)}, gain, x.dtype()), 1e-12);
}

// What enters softmax: bias + cap(factor * products), -inf where hidden.
Tensor scores_of(Tensor Q, Tensor K, const Tensor& hidden, const AttentionOptions& options) {
  if (options.qk_norm != QkNorm::none) {
    Q = normalised(clear_unread(Q, hidden, -1), options.qk_norm);
    K = normalised(clear_unread(K, hidden, -2), options.qk_norm);
  }
  const Tensor& learned = options.scale.learned();
  const double factor = learned.defined() ? 1.0 : options.scale.factor(Q.shape(-1), K.shape(-2));
  require(std::isfinite(factor), "attention: scale = ", factor, " is not finite");
  const double minus_infinity = -std::numeric_limits<double>::infinity();
  const bool bare = learned.empty() && options.soft_cap == 0.0 && options.bias.empty();
  Tensor scores;   // [..., Tq, Tk]
  if (hidden.empty()) {
    scores = matmul(Q, K, {.transpose_b = true});
    if (factor != 1.0) scores = scores * factor;
  } else {
    scores = detail::seen_scores(Q, K, hidden, factor, bare ? minus_infinity : 0.0);
  }
  if (bare) return scores;
  if (learned.defined()) scores = scores * reshape(learned, {learned.size(), 1, 1});
  if (options.soft_cap > 0.0) scores = tanh(scores / options.soft_cap) * options.soft_cap;
  if (options.bias.defined()) scores = scores + options.bias;
  return hidden.empty() ? scores : masked_fill(scores, hidden, minus_infinity);
}

Tensor weights_of(const Tensor& scores, const AttentionOptions& options) {
  const std::int64_t Tk = scores.shape(-1);
  if (options.weighting == Weighting::sigmoid)
    return sigmoid(scores + options.sigmoid_bias.value_or(-std::log(double(Tk))));
  if (options.weighting == Weighting::softmax) return softmax(scores, -1);
  Shape one_key = scores.shape();
  one_key.back() = 1;
  const Tensor with_nothing = concat({scores, zeros(one_key, scores.dtype())}, -1);   // the key "nothing", of score 0
  return slice(softmax(with_nothing, -1), -1, 0, Tk);
}

// [B, kv_heads, T, d] -> [B, heads, T, d]
Tensor shared_heads(const Tensor& x, std::int64_t heads) {
  const Shape& s = x.shape();
  if (s[1] == heads) return x;
  return reshape(broadcast_to(reshape(x, {s[0], s[1], 1, s[2], s[3]}), {s[0], s[1], heads / s[1], s[2], s[3]}),
                 {s[0], heads, s[2], s[3]});
}

// flat: scores and weights lose the axis of heads on their way, so that those returned lie on the path to the output.
AttentionResult attend(const Tensor& Q, Tensor K, Tensor V, const AttentionOptions& options, bool flat) {
  check_shapes(Q, K, V);
  Shape shape = Q.shape();
  shape.back() = K.shape(-2);
  check_options(options, shape, Q.dtype());
  if (Q.rank() == 4) {
    K = shared_heads(K, Q.shape(1));
    V = shared_heads(V, Q.shape(1));
  }
  const Tensor hidden = hidden_positions(options, shape);
  Tensor scores = scores_of(Q, K, hidden, options);
  if (flat) scores = reshape(scores, {shape[0] * shape[1], shape[2], shape[3]});
  const Tensor weights = weights_of(scores, options);
  Tensor applied = options.dropout > 0.0 && options.rng ? dropout(weights, options.dropout, *options.rng) : weights;
  if (flat) applied = reshape(applied, shape);
  const Tensor output = hidden.empty() ? matmul(applied, V) : detail::seen_sum(applied, V, hidden, false);
  if (!options.return_weights) return {output, {}, {}};
  return {output, weights, scores};
}

}  // namespace

double Scale::factor(std::int64_t d_k, std::int64_t n) const {
  switch (kind_) {
    case Kind::none: return 1.0;
    case Kind::inverse_sqrt: return 1.0 / std::sqrt(double(d_k));
    case Kind::number: return number_;
    case Kind::inverse: return 1.0 / double(d_k);
    case Kind::log_n: return std::log(double(n)) / std::sqrt(double(d_k));
    default: throw std::invalid_argument("Scale: a learned scale is no one number");
  }
}

AttentionResult attention(const Tensor& Q, const Tensor& K, const Tensor& V, const AttentionOptions& options) {
  return attend(Q, K, V, options, false);
}

AttentionResult detail::attention_of_heads(const Tensor& Q, const Tensor& K, const Tensor& V,
                                           const AttentionOptions& options) {
  return attend(Q, K, V, options, true);
}

}  // namespace surgeon
