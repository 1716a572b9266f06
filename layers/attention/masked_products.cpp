#include "layers/attention/masked_products.hpp"

#include <cmath>

#include "framework/anomaly.hpp"

namespace surgeon::detail {

namespace {

// Ops that build no graph, and among which nan is nothing to report: what a mask hides may be nan on the way.
struct Inside {
  const NoRecord no_graph;
  const Anomaly unwatched{false};
};

// Any nan or inf makes a sum nan or inf; a sum that overflows only takes the slower way.
bool all_finite(const Tensor& x) {
  const Inside pause;
  return std::isfinite(sum(x).item());
}

Tensor sum_of_products(const Tensor& A, const Tensor& B, SumOver over) {
  return matmul(A, B, {.transpose_a = over == SumOver::queries});
}

// visible_sum without a graph. A is 0 or nan where nothing is visible.
Tensor value_of_sum(const Tensor& A, const Tensor& B, const Tensor& visible, SumOver over) {
  const Inside pause;
  // Over keys a nan row of A only meets its own row of the result, which is nan by right.
  const bool clean = over == SumOver::keys || all_finite(A);
  if (clean && all_finite(B)) return sum_of_products(A, B, over);

  const Tensor hidden = !visible, zeroed = masked_fill(A, hidden, 0.0);
  if (all_finite(B)) return sum_of_products(zeroed, B, over);
  const Tensor bad = isnan(B * 0.0), poison = masked_fill(B, !bad, 0.0);
  const Tensor all_hidden = broadcast_to(hidden, A.shape());
  Tensor y = sum_of_products(zeroed, masked_fill(B, bad, 0.0), over);
  for (std::int64_t j = 0; j < B.shape(-2); ++j) {   // one bad key or query at a time: no tensor of T * T * d
    const Tensor values = slice(poison, -2, j, j + 1);
    if (all_finite(values)) continue;
    const auto column = [&](const Tensor& x) {
      return over == SumOver::keys ? slice(x, -1, j, j + 1) : transpose(slice(x, -2, j, j + 1), -1, -2);
    };
    y = y + masked_fill(column(A) * values, column(all_hidden), 0.0);
  }
  return y;
}

Tensor value_of_scores(const Tensor& X, const Tensor& Y, const Tensor& visible, double factor, double fill) {
  const Inside pause;
  const Tensor products = matmul(X, Y, {.transpose_b = true});
  return masked_fill(factor == 1.0 ? products : products * factor, !visible, fill);
}

// All but where X Y^T is neither visible nor finite.
Tensor visible_or_finite(const Tensor& X, const Tensor& Y, const Tensor& visible) {
  const Inside pause;
  const Tensor good = !isnan(matmul(X, Y, {.transpose_b = true}) * 0.0);
  return good.to(Dtype::int64) + visible.to(Dtype::int64) != 0.0;
}

}  // namespace

Tensor visible_sum(const Tensor& A, const Tensor& B, const Tensor& visible, SumOver over) {
  return record("masked_sum", {A, B, visible}, value_of_sum(A, B, visible, over),
                [over](const Ins& in, Out, Grad g) -> Grads {
                  const Tensor& X = over == SumOver::keys ? g : in[1];
                  const Tensor& Y = over == SumOver::keys ? in[1] : g;
                  Tensor dA, dB;
                  if (in.wanted(0)) {
                    // What is not visible has a derivative like any other factor, unless it would be nan.
                    dA = all_finite(X) && all_finite(Y)
                             ? matmul(X, Y, {.transpose_b = true})
                             : visible_scores(X, Y, visible_or_finite(X, Y, in[2]), 1.0, 0.0);
                  }
                  if (in.wanted(1))
                    dB = visible_sum(in[0], g, in[2], over == SumOver::keys ? SumOver::queries : SumOver::keys);
                  return {dA, dB, Tensor()};
                });
}

Tensor visible_scores(const Tensor& X, const Tensor& Y, const Tensor& visible, double factor, double fill) {
  return record("masked_scores", {X, Y, visible}, value_of_scores(X, Y, visible, factor, fill),
                [factor](const Ins& in, Out, Grad g) -> Grads {
                  const Tensor dS = masked_fill(factor == 1.0 ? g : g * factor, !in[2], 0.0);
                  Tensor dX, dY;
                  if (in.wanted(0)) dX = visible_sum(dS, in[1], in[2], SumOver::keys);
                  if (in.wanted(1)) dY = visible_sum(dS, in[0], in[2], SumOver::queries);
                  return {dX, dY, Tensor()};
                });
}

}  // namespace surgeon::detail
