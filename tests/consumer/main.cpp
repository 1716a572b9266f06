// Uses the package as the README does: the gradients of attention with respect to its own weights, scores and queries.
#include <cmath>
#include <cstdio>

#include "framework/framework.hpp"
#include "layers/layers.hpp"

using namespace surgeon;

int main() {
  Rng rng(42);
  const Tensor Q = randn({1, 10, 64}, rng), K = randn({1, 10, 64}, rng), V = randn({1, 10, 64}, rng);
  auto [output, weights, scores] = attention(Q, K, V, {.mask = causal_mask(10), .return_weights = true});
  const auto [dQ, dscores] = grad(sum(output * output), {Q, scores});
  // A constant added to a row of scores changes nothing: their gradients sum to 0 in each row.
  const double row_sum = max(abs(sum(dscores, {.axes = {-1}}))).item();
  const double first_row = std::abs(weights.at({0, 0, 0}) - 1);   // sees only itself
  std::printf("|dQ| = %g, largest row sum of dscores = %g\n", std::sqrt(sum(dQ * dQ).item()), row_sum);
  return row_sum < 1e-4 && first_row < 1e-6 ? 0 : 1;
}
