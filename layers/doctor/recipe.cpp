#include "layers/doctor/recipe.hpp"

#include <limits>

namespace surgeon::detail {

namespace {

Tensor weighed(const Tensor& scores, const Recipe& r) {
  switch (r.weigh) {
    case Weigh::sigmoid:
      return sigmoid(scores);
    case Weigh::twice:
      return softmax(softmax(scores, r.axis), r.axis);
    case Weigh::not_at_all:
      return masked_fill(scores, scores == -std::numeric_limits<double>::infinity(), 0.0);
    case Weigh::off_by_one:
      return exp(scores - softplus(logsumexp(scores, Over{{r.axis}, true})));
    default:
      return softmax(scores, r.axis);
  }
}

}   // namespace

Tensor shared(const Tensor& x, std::int64_t heads, Groups groups) {
  const std::int64_t kv = x.shape(1), T = x.shape(2), d = x.shape(3), each = heads / kv;
  if (each == 1) return x;
  if (groups == Groups::in_turn)
    return reshape(broadcast_to(reshape(x, {1, 1, kv, T, d}), {1, each, kv, T, d}), {1, heads, T, d});
  return reshape(broadcast_to(reshape(x, {1, kv, 1, T, d}), {1, kv, each, T, d}), {1, heads, T, d});
}

Tensor products(const Tensor& Q, const Tensor& K) { return matmul(Q, shared(K, Q.shape(1)), {.transpose_b = true}); }

Tensor weights_of(Tensor scores, const Recipe& r) {
  scores = scores * r.factor;
  if (r.soft_cap > 0) scores = tanh(scores / r.soft_cap) * r.soft_cap;
  if (r.bias.defined()) scores = scores + r.bias;
  if (r.visible.empty()) return weighed(scores, r);
  const double minus_infinity = -std::numeric_limits<double>::infinity();
  if (r.hidden == Hidden::added) return weighed(scores + r.visible.to(Dtype::float64), r);
  if (r.hidden == Hidden::weight_zeroed) return masked_fill(weighed(scores, r), !r.visible, 0.0);
  return weighed(masked_fill(scores, !r.visible, r.hidden == Hidden::filled ? r.fill : minus_infinity), r);
}

Attended applied(const Tensor& weights, const Tensor& V) {
  return {weights, matmul(weights, shared(V, weights.shape(1)))};
}

// [1, heads, T, d] -> the same numbers as they lie in [T, heads * d], read as [heads, T, d]; and back.
Tensor split_wrongly(const Tensor& x) { return reshape(permute(x, {0, 2, 1, 3}), x.shape()); }
Tensor joined_wrongly(const Tensor& x) {
  return permute(reshape(x, {1, x.shape(2), x.shape(1), x.shape(3)}), {0, 2, 1, 3});
}

// The mask one key to the right or left: queries see one key more, or one less.
Tensor one_more(const Tensor& visible) { return concat({slice(visible, -1, 0, 1), slice(visible, -1, 0, -1)}, -1); }
Tensor one_less(const Tensor& visible) {
  const Tensor last = slice(visible, -1, -1);
  return concat({slice(visible, -1, 1), last != last}, -1);
}

// The factor of Q K^T that makes the logarithms of the weights given, by least squares weighted by the weights.
double fitted_factor(const Specimen& s, const Recipe& told) {
  const Tensor P = s.weights, seen = (P > 1e-6).to(Dtype::float64);
  Tensor y = log(maximum(P, full({1}, 1e-6, Dtype::float64)));
  if (told.bias.defined()) y = y - told.bias;
  const auto centred = [&](const Tensor& x) {
    const Tensor w = P * seen, total = maximum(sum(w, Over{{-1}, true}), full({1}, 1e-300, Dtype::float64));
    return x - sum(w * x, Over{{-1}, true}) / total;
  };
  const Tensor x = centred(products(s.Q, s.K)), w = P * seen;
  return (sum(w * x * centred(y)) / sum(w * x * x)).item();
}

// The features of all heads, [T, heads * d], cut as [T, d, heads] instead of [T, heads, d].
Tensor interleaved(const Tensor& x) {
  const Tensor rows = reshape(permute(x, {0, 2, 1, 3}), {1, x.shape(2), x.shape(3), x.shape(1)});
  return permute(rows, {0, 3, 1, 2});
}

}   // namespace surgeon::detail
