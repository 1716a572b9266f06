// The plain path of attention, with scores and weights as tensors. Where there is a mask, the products run over what is
// seen only: 0 * nan is nan, so multiplying by a weight of 0 is not enough to keep a masked value out.
#include "layers/attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/require.hpp"

namespace surgeon {

using detail::require;

namespace {

// Any nan or inf makes a sum nan or inf; a sum that overflows only takes the slower way.
bool all_finite(const Tensor& x) {
  NoRecord pause;
  return std::isfinite(sum(x).item());
}

// sum over the seen inner positions of A times B: A B, or A^T B when transposed. A is 0 or nan where hidden.
Tensor seen_product(const Tensor& A, const Tensor& B, const Tensor& hidden, bool transposed) {
  NoRecord pause;
  // Without the transpose a nan row of A only meets its own row of the result, which is nan by right.
  const Tensor clean = !transposed || all_finite(A) ? A : masked_fill(A, hidden, 0.0);
  if (all_finite(B)) return matmul(clean, B, {.transpose_a = transposed});

  const Tensor bad = isnan(B * 0.0);
  const Tensor poison = masked_fill(B, !bad, 0.0);
  const Tensor all_hidden = broadcast_to(hidden, A.shape());
  Tensor y = matmul(masked_fill(A, hidden, 0.0), masked_fill(B, bad, 0.0), {.transpose_a = transposed});
  for (std::int64_t j = 0; j < B.shape(-2); ++j) {   // one bad key at a time: no tensor of T * T * d
    const Tensor values = slice(poison, -2, j, j + 1);
    if (all_finite(values)) continue;
    Tensor factor = slice(A, transposed ? -2 : -1, j, j + 1);
    Tensor unseen = slice(all_hidden, transposed ? -2 : -1, j, j + 1);
    if (transposed) {
      factor = transpose(factor, -1, -2);
      unseen = transpose(unseen, -1, -2);
    }
    y = y + masked_fill(factor * values, unseen, 0.0);
  }
  return y;
}

// The two ops below are each other's derivatives, so attention can be differentiated to any order.
// hidden: true where query i does not see key j; it broadcasts to [..., Tq, Tk].
Tensor seen_scores(const Tensor& X, const Tensor& Y, const Tensor& hidden, double factor, double fill);

Tensor seen_sum(const Tensor& A, const Tensor& B, const Tensor& hidden, bool transposed) {
  return record("masked_sum", {A, B, hidden}, seen_product(A, B, hidden, transposed),
                [transposed](const Ins& in, Out, Grad g) -> Grads {
                  const Tensor& X = transposed ? in[1] : g;
                  const Tensor& Y = transposed ? g : in[1];
                  Tensor dA, dB;
                  if (in.wanted(0)) {
                    // What is hidden has a derivative like any other factor, unless it would be nan.
                    dA = all_finite(X) && all_finite(Y) ? matmul(X, Y, {.transpose_b = true})
                                                        : seen_scores(X, Y, in[2], 1.0, 0.0);
                  }
                  if (in.wanted(1)) dB = seen_sum(in[0], g, in[2], !transposed);
                  return {dA, dB, Tensor()};
                });
}

// factor X Y^T where seen, else fill
Tensor seen_scores(const Tensor& X, const Tensor& Y, const Tensor& hidden, double factor, double fill) {
  const auto value = [&] {
    NoRecord pause;
    const Tensor products = matmul(X, Y, {.transpose_b = true});
    return masked_fill(factor == 1.0 ? products : products * factor, hidden, fill);
  };
  return record("masked_scores", {X, Y, hidden}, value(), [factor](const Ins& in, Out, Grad g) -> Grads {
    const Tensor dS = masked_fill(factor == 1.0 ? g : g * factor, in[2], 0.0);
    Tensor dX, dY;
    if (in.wanted(0)) dX = seen_sum(dS, in[1], in[2], false);
    if (in.wanted(1)) dY = seen_sum(dS, in[0], in[2], true);
    return {dX, dY, Tensor()};
  });
}

void check_shapes(const Tensor& Q, const Tensor& K, const Tensor& V) {
  detail::require_value("attention", Q);
  detail::require_value("attention", K);
  detail::require_value("attention", V);
  const auto all = [&] { return detail::join("attention: Q ", Q.shape(), ", K ", K.shape(), ", V ", V.shape(), ": "); };
  require(Q.dtype() == K.dtype() && Q.dtype() == V.dtype() && is_floating(Q.dtype()), "attention: Q, K and V are ",
          Q.dtype(), ", ", K.dtype(), " and ", V.dtype(), ": they must be all float32 or all float64");
  const int rank = Q.rank();
  require((rank == 3 || rank == 4) && K.rank() == rank && V.rank() == rank, all(),
          "all must be [batch, T, d] or all [batch, heads, T, d]");
  for (int axis = 0; axis < rank - 2; ++axis)
    require(Q.shape(axis) == K.shape(axis) && Q.shape(axis) == V.shape(axis), all(), axis == 0 ? "batch" : "head",
            " sizes ", Q.shape(axis), ", ", K.shape(axis), " and ", V.shape(axis), " differ");
  require(Q.shape(-1) == K.shape(-1), all(), "d_k ", Q.shape(-1), " of Q and ", K.shape(-1), " of K differ");
  require(Q.shape(-1) >= 1, all(), "d_k is 0");
  require(K.shape(-2) == V.shape(-2), all(), K.shape(-2), " keys but ", V.shape(-2), " values");
  require(K.shape(-2) >= 1, all(), "there is no key");
}

template <class T>
void check_zeros_and_ones(const Tensor& mask) {
  for (const T m : mask.values<T>())
    require(m == 0 || m == 1, "attention: a mask holds ", m, ": only 0 and 1 have a meaning");
}

// Where the mask forbids: boolean, of the mask's own shape.
Tensor hidden_by(const Tensor& mask, const Shape& scores) {
  const Shape& shape = mask.shape();
  bool fits = shape.size() <= scores.size() && !(shape.size() == 3 && scores.size() == 4);
  for (std::size_t back = 1; fits && back <= shape.size(); ++back)
    fits = shape[shape.size() - back] == 1 || shape[shape.size() - back] == scores[scores.size() - back];
  require(fits, "attention: a mask ", shape, " does not fit scores ", scores);
  if (mask.dtype() == Dtype::boolean) return !mask;
  require(is_floating(mask.dtype()), "attention: a mask of ", mask.dtype(), ": it must be boolean or float 0 and 1");
  mask.dtype() == Dtype::float32 ? check_zeros_and_ones<float>(mask) : check_zeros_and_ones<double>(mask);
  return mask == 0.0;
}

}  // namespace

AttentionResult attention(const Tensor& Q, const Tensor& K, const Tensor& V, const AttentionOptions& options) {
  check_shapes(Q, K, V);
  const double factor = options.scale.factor(Q.shape(-1));
  require(std::isfinite(factor), "attention: scale = ", factor, " is not finite");
  Tensor output, weights, scores;
  if (options.mask.empty()) {
    scores = matmul(Q, K, {.transpose_b = true});   // [..., Tq, Tk]
    if (factor != 1.0) scores = scores * factor;
    weights = softmax(scores, -1);
    output = matmul(weights, V);
  } else {
    Shape shape = Q.shape();
    shape.back() = K.shape(-2);
    const Tensor hidden = hidden_by(options.mask, shape);
    scores = seen_scores(Q, K, hidden, factor, -std::numeric_limits<double>::infinity());
    weights = softmax(scores, -1);
    output = seen_sum(weights, V, hidden, false);
  }
  if (!options.return_weights) return {output, {}, {}};
  return {output, weights, scores};
}

}  // namespace surgeon
