// The README's first example: each query's gradient, with and without 1/sqrt(d_k). Built here against the installed package.
#include <cstdio>

#include "layers/layers.hpp"

using namespace surgeon;

int main() {
  Rng rng(42);
  const Shape shape = {1, 10, 1024};   // batch, tokens, d_k
  const Tensor Q = randn(shape, rng), K = randn(shape, rng), V = randn(shape, rng);
  for (bool scaled : {true, false}) {
    const auto [output, weights, scores] = attention(Q, K, V, {.scale = scaled, .return_weights = true});
    const auto [dQ, dscores] = grad(sum(output * V), {Q, scores});   // any tensor on the way may be asked for
    const Tensor queries = sqrt(sum(dQ * dQ, -1));                   // [1, 10]: the norm for each query
    std::printf("%s: |dL/dQ| of a query from %.1e to %.1e, largest |dL/dscore| %.1e\n", scaled ? "scaled" : "unscaled",
                min(queries).item(), max(queries).item(), max(abs(dscores)).item());
  }
}
