#include "layers/attention/masked_products.hpp"

#include <cmath>

namespace surgeon::detail {

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

// Where X Y^T is hidden and not finite.
Tensor hidden_and_bad(const Tensor& X, const Tensor& Y, const Tensor& hidden) {
  NoRecord pause;
  const Tensor bad = isnan(matmul(X, Y, {.transpose_b = true}) * 0.0);
  return bad.to(Dtype::int64) * hidden.to(Dtype::int64) != 0.0;
}

}  // namespace

Tensor seen_sum(const Tensor& A, const Tensor& B, const Tensor& hidden, bool transposed) {
  return record("masked_sum", {A, B, hidden}, seen_product(A, B, hidden, transposed),
                [transposed](const Ins& in, Out, Grad g) -> Grads {
                  const Tensor& X = transposed ? in[1] : g;
                  const Tensor& Y = transposed ? g : in[1];
                  Tensor dA, dB;
                  if (in.wanted(0)) {
                    // What is hidden has a derivative like any other factor, unless it would be nan.
                    dA = all_finite(X) && all_finite(Y) ? matmul(X, Y, {.transpose_b = true})
                                                        : seen_scores(X, Y, hidden_and_bad(X, Y, in[2]), 1.0, 0.0);
                  }
                  if (in.wanted(1)) dB = seen_sum(in[0], g, in[2], !transposed);
                  return {dA, dB, Tensor()};
                });
}

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

}  // namespace surgeon::detail
