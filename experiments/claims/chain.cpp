// Claims about the chain rule through an attention layer: which gradients vanish together, and which are one.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "experiments/claims.hpp"
#include "framework/diagnostics.hpp"
#include "layers/layers.hpp"

namespace surgeon::claims {
namespace {

constexpr Dtype f64 = Dtype::float64;
constexpr std::int64_t T = 8, d = 6;   // tokens and width, where a claim does not depend on them

Tensor normal(const Shape& shape, Rng& rng) { return randn(shape, rng, f64); }

// One head on X [T, d]; weights [d, d_k] from the right.
struct Head {
  Tensor W_q, W_k, W_v;
  explicit Head(Rng& rng, std::int64_t d_k = d)
      : W_q(normal({d, d_k}, rng)), W_k(normal({d, d_k}, rng)), W_v(normal({d, d_k}, rng)) {}
  std::vector<Tensor> weights() const { return {W_q, W_k, W_v}; }
};

Tensor scores_of(const Tensor& X, const Tensor& W_q, const Tensor& W_k) {
  return matmul(matmul(X, W_q), matmul(X, W_k), {.transpose_b = true}) / std::sqrt(double(W_q.shape(1)));
}
Tensor output_of(const Tensor& X, const std::vector<Tensor>& w) {
  return matmul(softmax(scores_of(X, w[0], w[1])), matmul(X, w[2]));
}

double away_from_mean(const Tensor& X) { return norm(X - mean(X, Over{{0}, true})); }

// The exponent of y between two sizes of eps, one draw at a time.
constexpr double small = 1e-3, smaller = 1e-4;
double exponent(double y, double at_smaller) { return std::log(y / at_smaller) / std::log(small / smaller); }

// Tokens that have collapsed but for eps: X = 1 x^T + eps R.
struct Collapse {
  Tensor x, R;
  explicit Collapse(Rng& rng) : x(normal({1, d}, rng)), R(normal({T, d}, rng)) {}
  Tensor at(double eps) const { return x + R * eps; }
};

// ---- 10: scores of row i are x A x + eps x A r_j + eps r_i A x + eps^2 r_i A r_j. What depends on j alone is the same
//          for all rows, and what depends on i alone falls out of softmax: rows of weights differ by eps^2, and what
//          they average differs by eps ---------------------------------------------------------------------------------
std::vector<Reading> rank_collapse(const Draws& draws) {
  const auto exponents = [&](bool skip) {
    return draws.each([skip](Rng& rng) {
      const Collapse tokens(rng);
      const Head head(rng);
      const auto left = [&](double eps) {
        const Tensor X = tokens.at(eps), y = output_of(X, head.weights());
        return away_from_mean(skip ? X + y : y);
      };
      return exponent(left(small), left(smaller));
    });
  };
  return {mean_reading("residual: exponent in a layer", 3, exponents(false)),
          mean_reading("the same with a skip", 1, exponents(true))};
}

// ---- 11: dP = G V^T has rows that are constant but for eps, and J kills constants: dS ~ eps. dQ = dS K, where rows of
//          dS sum to 0 and rows of K are equal but for eps: eps^2. dK = dS^T Q is of size eps, but dW_k = X^T dK sees
//          its sum over keys, which is 0, and eps times the rest. dV = P^T G does not notice ---------------------------
std::vector<Reading> stopped_learning(const Draws& draws) {
  std::vector<std::vector<double>> exponents(4);
  (void)draws.each([&](Rng& rng) {
    const Collapse tokens(rng);
    const Head head(rng);
    const Tensor G = normal({T, d}, rng);
    const auto sizes = [&](double eps) {
      const Tensor X = tokens.at(eps);
      std::vector<Tensor> in = head.weights();
      Tensor scores;
      const auto dW = vjp([&](const std::vector<Tensor>& w) { return output_of(X, w); }, in, G);
      scores = scores_of(X, head.W_q, head.W_k);
      const auto dS = vjp([&](const std::vector<Tensor>& s) { return matmul(softmax(s[0]), matmul(X, head.W_v)); },
                          {scores}, G);
      return std::vector<double>{norm(dW[0]), norm(dW[1]), norm(dW[2]), norm(dS[0])};
    };
    const std::vector<double> at = sizes(small), closer = sizes(smaller);
    for (std::size_t i = 0; i < 4; ++i) exponents[i].push_back(exponent(at[i], closer[i]));
    return 0.0;
  });
  return {mean_reading("exponent of eps in dW_q", 2, exponents[0]), mean_reading("in dW_k", 2, exponents[1]),
          mean_reading("in dW_v", 0, exponents[2]), mean_reading("in dS", 1, exponents[3])};
}

// ---- 13: among centred rows of norm sigma, one score up and the others equal has the least entropy: with b = e^-gap,
//          gap = sigma sqrt(T / (T-1)), H = ln(1 + (T-1) b) + gap (T-1) b / (1 + (T-1) b) ------------------------------
double least_entropy(double sigma, double n) {
  const double gap = sigma * std::sqrt(n / (n - 1)), b = std::exp(-gap), rest = (n - 1) * b;
  return std::log1p(rest) + gap * rest / (1 + rest);
}

std::vector<Reading> entropy_bound(const Draws& draws) {
  constexpr std::int64_t n = 10;
  const auto entropy_at = [](const Tensor& direction, double sigma) {   // the centred direction, at norm sigma
    const Tensor centred = direction - mean(direction);
    return entropy(softmax(centred * (sigma / norm(centred))))[0];
  };
  double below = -1;
  (void)draws.each([&](Rng& rng) {
    const double sigma = 8 * rng.uniform() + 0.1;
    below = std::max(below, least_entropy(sigma, double(n)) - entropy_at(normal({n}, rng), sigma));
    return 0.0;
  });
  const Tensor one = concat({full({1}, 1.0, f64), zeros({n - 1}, f64)}, 0);
  return {at_most("bound - H", 0, below, 1e-12),
          identity("H of one score up, norm 3", least_entropy(3, double(n)), entropy_at(one, 3), 1e-13)};
}

// ---- 18: Q K^T is a product through d_k numbers; with d_k = n, Q = ln A and K = I give any weights A > 0 ------------
std::vector<Reading> low_rank(const Draws& draws) {
  constexpr std::int64_t n = 12, d_k = 4;
  double largest = 0, off = 0;
  (void)draws.each([&](Rng& rng) {
    const Tensor S = matmul(normal({n, d_k}, rng), normal({n, d_k}, rng), {.transpose_b = true});
    largest = std::max(largest, double(matrix_rank(S)));
    const Tensor A = softmax(normal({1, n, n}, rng));
    const Tensor own = attention(log(A), reshape(eye(n, f64), {1, n, n}), zeros({1, n, 1}, f64),
                                 {.scale = false, .return_weights = true}).weights;
    off = std::max(off, max(abs(own - A)).item());
    return 0.0;
  });
  return {at_most("rank of the scores, d_k 4", double(d_k), largest, 1e-9),
          identity("any weights, d_k = n: off by", 0, off, 1e-13)};
}

// ---- 22: rows of A V are combinations of rows of V; different A_h choose different ones ------------------------------
std::vector<Reading> rank_of_heads(const Draws& draws) {
  constexpr std::int64_t n = 12, width = 8, heads = 3, rank = 2;
  double one = 0, least = 1e9, most = 0;
  (void)draws.each([&](Rng& rng) {
    const Tensor X = matmul(normal({n, rank}, rng), normal({rank, width}, rng));
    Tensor all = zeros({n, width}, f64);
    for (std::int64_t h = 0; h < heads; ++h) {
      const Tensor mixed = matmul(softmax(normal({n, n}, rng) * 2.0), X);
      one = std::max(one, double(matrix_rank(mixed)));
      all = all + matmul(mixed, normal({width, width}, rng));
    }
    least = std::min(least, double(matrix_rank(all)));
    most = std::max(most, double(matrix_rank(all)));
    return 0.0;
  });
  const double expected = double(std::min({n, width, heads * rank}));
  return {at_most("rank of A V, V of rank 2", double(rank), one, 1e-9),
          identity("rank of three heads, least", expected, least, 1e-9),
          identity("rank of three heads, most", expected, most, 1e-9)};
}

// ---- 31: a key bias adds q . b to all scores of a row, which softmax does not see: db_k = sum_ij dS_ij Q_i = 0. Adam
//          divides what rounding leaves of it by its own size, as long as that is far above eps = 1e-8 ----------------
struct BiasStep { double share = 0, adam = 0, sgd = 0; };   // |db_k| / |db_q|; mean |move| / lr; |move b_k| / |move b_q|

BiasStep bias_step(Rng& rng, Dtype dtype) {
  constexpr double lr = 1e-3;
  const Tensor x = randn({2, 16, 32}, rng, dtype), G = randn({2, 16, 32}, rng, dtype);
  const MultiHeadAttention layer(32, 4, rng, dtype);
  const Parameters p = layer.parameters();
  const auto moves = [&](auto&& optimizer) {
    const Tensor q = p["W_q.bias"].detach(), k = p["W_k.bias"].detach();
    optimizer.step(grad(sum(layer(x).output * G), p));
    const NoRecord pause;
    return std::pair{p["W_q.bias"] - q, p["W_k.bias"] - k};
  };
  const auto g = grad(sum(layer(x).output * G), {p["W_q.bias"], p["W_k.bias"]});
  const double share = norm(g[1]) / norm(g[0]);
  const auto by_sgd = moves(Sgd(p, SgdOptions{.lr = lr}));
  const auto by_adam = moves(Adam(p, AdamOptions{.lr = lr}));
  return {share, mean(abs(by_adam.second)).item() / lr, norm(by_sgd.second) / norm(by_sgd.first)};
}

std::vector<Reading> key_bias(const Draws& draws) {
  std::vector<BiasStep> narrow, wide;
  const Draws fewer{std::max<std::int64_t>(draws.n / 10, 1), draws.seed, draws.stream};   // each is eight passes
  (void)fewer.each([&](Rng& rng) { return narrow.push_back(bias_step(rng, Dtype::float32)), 0.0; }, 0);
  (void)fewer.each([&](Rng& rng) { return wide.push_back(bias_step(rng, f64)), 0.0; }, 1);
  const auto worst = [](const std::vector<BiasStep>& steps, double BiasStep::*part) {
    double most = 0;
    for (const BiasStep& s : steps) most = std::max(most, s.*part);
    return most;
  };
  double least = 1;
  for (const BiasStep& s : narrow) least = std::min(least, s.adam);
  // Rounding: sums of 2 * 16 * 16 terms, each within 2^-24 or 2^-53 of its size.
  return {at_most("|db_k| / |db_q|, float32", 512 * 0x1p-24, worst(narrow, &BiasStep::share), 1e-9),
          at_most("the same, float64", 512 * 0x1p-53, worst(wide, &BiasStep::share), 1e-15),
          at_most("Adam, float32: 1 - move / lr", 0.5, 1 - least, 1e-9),
          at_most("Adam, float64: move / lr", 1e-4, worst(wide, &BiasStep::adam), 1e-9),
          at_most("SGD, float32: b_k / b_q", 512 * 0x1p-24, worst(narrow, &BiasStep::sgd), 1e-9)};
}

// ---- 32: with Q = X W_q and K = X W_k, W_q^T dW_q = Q^T dS K = (W_k^T dW_k)^T. So the gradient flow keeps
//          W_q^T W_q - W_k^T W_k; an SGD step of size lr changes it by lr^2 (dW_q^T dW_q - dW_k^T dW_k), and the drift
//          over a fixed time is proportional to lr -------------------------------------------------------------------
double kept(const Tensor& W_q, const Tensor& W_k, const Tensor& from) {
  return norm(matmul(W_q, W_q, {.transpose_a = true}) - matmul(W_k, W_k, {.transpose_a = true}) - from);
}

double drift(Rng rng, double lr) {
  constexpr double time = 0.25;
  const Tensor X = normal({T, d}, rng), Y = normal({T, 3}, rng);
  std::vector<Tensor> w = Head(rng, 3).weights();
  for (Tensor& x : w) x = x * 0.3;
  const Tensor start = matmul(w[0], w[0], {.transpose_a = true}) - matmul(w[1], w[1], {.transpose_a = true});
  for (int step = 0; step < int(time / lr + 0.5); ++step) {
    const std::vector<Tensor> g = grad(sum(pow(output_of(X, w) - Y, 2)), w);
    const NoRecord pause;
    for (std::size_t i = 0; i < 3; ++i) w[i] = (w[i] - g[i] * lr).detach();
  }
  return kept(w[0], w[1], start);
}

std::vector<Reading> shared_gradient(const Draws& draws) {
  double off = 0;
  (void)draws.each([&](Rng& rng) {
    const Tensor X = normal({T, d}, rng), G = normal({T, d}, rng);
    const Head head(rng);
    const auto dW = vjp([&](const std::vector<Tensor>& w) { return output_of(X, w); }, head.weights(), G);
    const Tensor q = matmul(head.W_q, dW[0], {.transpose_a = true}), k = matmul(head.W_k, dW[1], {.transpose_a = true});
    off = std::max(off, norm(q - transpose(k, 0, 1)) / norm(q));
    return 0.0;
  });
  const Draws fewer{std::max<std::int64_t>(draws.n / 40, 2), draws.seed, draws.stream};
  const std::vector<double> exponents = fewer.each([](Rng& rng) {
    return std::log(drift(rng, 0.25 / 64) / drift(rng, 0.25 / 128)) / std::log(2.0);
  }, 1);
  return {identity("W_q^T dW_q - (W_k^T dW_k)^T", 0, off, 1e-11),
          median_reading("SGD's drift: exponent of lr", 1, exponents)};
}

// ---- 33: X -> sigma X makes scores sigma^2 S: each derivative of the output sigma A X W_v by W_q or W_k brings
//          sigma^2, one by W_v takes none away. With a square loss whose residual stays of size 1, the blocks of the
//          Hessian are: QQ sigma sigma^4, QK (one derivative of S by both) sigma sigma^2, QV sigma sigma^2, VV (sigma)^2 --
struct Blocks { double QQ, KK, QK, QV, KV, VV; };

Blocks hessian_blocks(const Tensor& X, const Tensor& Y, const Head& head, double sigma) {
  constexpr std::int64_t d_k = 2, m = d * d_k;
  const Tensor all = concat({flatten(head.W_q), flatten(head.W_k), flatten(head.W_v)}, 0);
  const Tensor H = hessian([&](const Tensor& w) {
    std::vector<Tensor> parts;
    for (std::int64_t i = 0; i < 3; ++i) parts.push_back(reshape(slice(w, 0, i * m, (i + 1) * m), {d, d_k}));
    return sum(pow(output_of(X * sigma, parts) - Y, 2)) * 0.5;
  }, all);
  const auto block = [&](std::int64_t i, std::int64_t j) {
    return norm(slice(slice(H, 0, i * m, (i + 1) * m), 1, j * m, (j + 1) * m));
  };
  return {block(0, 0), block(1, 1), block(0, 1), block(0, 2), block(1, 2), block(2, 2)};
}

std::vector<Reading> curvature(const Draws& draws) {
  const Draws fewer{std::max<std::int64_t>(draws.n / 20, 2), draws.seed, draws.stream};   // each is two whole Hessians
  std::vector<std::vector<double>> found(6);
  (void)fewer.each([&](Rng& rng) {
    const Tensor X = normal({4, d}, rng), Y = normal({4, 2}, rng);
    const Head head(rng, 2);
    const Blocks a = hessian_blocks(X, Y, head, 0.02), b = hessian_blocks(X, Y, head, 0.01);
    std::size_t i = 0;
    for (double Blocks::*part : {&Blocks::QQ, &Blocks::KK, &Blocks::QK, &Blocks::QV, &Blocks::KV, &Blocks::VV})
      found[i++].push_back(std::log2(a.*part / (b.*part)));
    return 0.0;
  });
  const auto reading = [&](const char* name, double predicted, std::size_t i) {
    return median_reading(fmt::format("block {}: exponent of sigma", name), predicted, found[i]);
  };
  return {reading("QQ", 5, 0), reading("KK", 5, 1), reading("QK", 3, 2),
          reading("QV", 3, 3), reading("KV", 3, 4), reading("VV", 2, 5)};
}

// ---- 35: dV_j = sum_i A_ij G_i, so for independent G_i of one size E |dV_j|^2 is proportional to sum_i A_ij^2. Equal
//          weights under a causal mask have A_ij = 1/i for j <= i: the first key has H_T^(2) = 1 + 1/4 + ... + 1/T^2 of
//          all, H_T = 1 + 1/2 + ... + 1/T --------------------------------------------------------------------------------
std::vector<Reading> causal_sink(const Draws& draws) {
  std::vector<Reading> readings;
  for (const std::int64_t tokens : {16, 64, 256}) {
    double squares = 0, harmonic = 0;
    for (std::int64_t i = 1; i <= tokens; ++i) squares += 1 / double(i * i), harmonic += 1 / double(i);
    std::vector<double> first, all;
    (void)draws.each([&](Rng& rng) {
      const Tensor Q = zeros({1, tokens, 1}, f64), V = zeros({1, tokens, 4}, f64), G = normal({1, tokens, 4}, rng);
      const auto dV = vjp([&](const std::vector<Tensor>& in) { return attention(Q, Q, in[0], {.causal = true}).output; },
                          {V}, G)[0];
      const std::vector<double> sizes = row_norms(dV);
      first.push_back(sizes[0] * sizes[0]);
      all.push_back(norm(dV) * norm(dV));
      return 0.0;
    }, std::uint64_t(tokens));
    readings.push_back(ratio_reading(fmt::format("token 1 of |dV|^2, T {}", tokens), squares / harmonic, first,
                                     all).at(double(tokens)));
  }
  return readings;
}

}  // namespace

std::vector<Claim> chain() {
  return {
      {10, "Without skips, what tells tokens apart shrinks with its third power", "Dong 2021, arXiv 2103.03404",
       rank_collapse},
      {11, "At collapse W_q and W_k stop learning, and W_v does not", "Noci 2022, arXiv 2206.03126; powers derived here",
       stopped_learning},
      {13, "Entropy has a lower bound in the size of the scores", "Zhai 2023, arXiv 2303.06296; derived again here",
       entropy_bound},
      {18, "Scores have at most rank d_k, and d_k = n is enough for any weights", "Bhojanapalli 2020, arXiv 2002.07028",
       low_rank},
      {22, "One head cannot raise the rank, several can", "derived here", rank_of_heads},
      {31, "The key bias has no gradient, and Adam trains it on rounding", "arXiv 2302.08626; Adam derived here", key_bias,
       "Adam moves it because the rounding noise of this loss is far above Adam's eps of 1e-8."},
      {32, "W_q and W_k share one gradient, and SGD breaks its conservation law by lr",
       "arXiv 2506.06194; identity derived here", shared_gradient},
      {33, "The curvature of W_q and W_v lives on different scales", "arXiv 2410.10986; powers derived here", curvature},
      {35, "A causal mask alone makes the first token a gradient sink", "derived here; arXiv 2603.17771", causal_sink, "", "T",
       "share of |dV|^2"}};
}

}  // namespace surgeon::claims
