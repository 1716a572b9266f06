// Claims about other rules for scores and weights: what each does to the row that softmax would kill.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include <fmt/format.h>

#include "experiments/claims.hpp"
#include "experiments/theory.hpp"
#include "framework/diagnostics.hpp"
#include "framework/linalg.hpp"
#include "layers/layers.hpp"

namespace surgeon::claims {
namespace {

constexpr Dtype f64 = Dtype::float64;
constexpr std::int64_t n = 10;   // keys
constexpr double infinity = std::numeric_limits<double>::infinity();

Tensor normal(const Shape& shape, Rng& rng) { return randn(shape, rng, f64); }
double squared(double x) { return x * x; }

AttentionResult looked_at(const Tensor& Q, const Tensor& K, AttentionOptions options) {
  options.return_weights = true;
  return attention(Q, K, zeros({K.shape(0), K.shape(1), 1}, f64), options);
}

// ---- 15: the cosine of two independent directions has variance 1/d_k, whatever the lengths --------------------------
std::vector<Reading> cosines(const Draws& draws) {
  std::vector<Reading> readings;
  for (const std::int64_t d : {16, 256}) {
    const auto own = [d](Rng& rng) {
      const Tensor q = normal({1, 1, d}, rng) * 50.0, k = normal({1, 1, d}, rng) * 0.1;
      return squared(looked_at(q, k, {.scale = false, .qk_norm = QkNorm::l2}).scores.item());
    };
    readings.push_back(root_mean_square_reading(fmt::format("std of QK-normed, d_k {}", d),
                                                1 / std::sqrt(double(d)), draws.each(own, std::uint64_t(d))));
  }
  return readings;
}

// ---- 20: exp(s_j) / (1 + sum exp(s)): when all scores fall, all weights do, and so do their derivatives --------------
std::vector<Reading> off_by_one(const Draws& draws) {
  double weights = 0, gradients = 0;
  (void)draws.each([&](Rng& rng) {
    const Tensor K = abs(normal({1, n, 4}, rng)), Q = full({1, 1, 4}, -2000.0, f64), V = normal({1, n, 4}, rng);
    const AttentionOptions rule{.scale = false, .weighting = Weighting::off_by_one};
    weights = std::max(weights, max(looked_at(Q, K, rule).weights).item());
    const auto g = vjp([&](const std::vector<Tensor>& in) { return attention(in[0], in[1], V, rule).output; }, {Q, K},
                       normal({1, 1, 4}, rng));
    for (const Tensor& x : g) gradients = std::max(gradients, std::isfinite(norm(x)) ? norm(x) : infinity);
    return 0.0;
  });
  return {at_most("largest weight", 1e-100, weights, 1e-300),
          at_most("largest gradient", 1e-100, gradients, 1e-300)};
}

// ---- 21: E sigmoid(s) = 1/2 by symmetry: n/2 without a bias; with -ln n each weight is about e^s / n ----------------
std::vector<Reading> sigmoid_bias(const Draws& draws) {
  constexpr std::int64_t d = 64;
  std::vector<double> bare, biased;
  double slope_of_weight = 0;
  (void)draws.each([&](Rng& rng) {
    const Tensor Q = normal({1, 1, d}, rng), K = normal({1, n, d}, rng);
    bare.push_back(sum(looked_at(Q, K, {.weighting = Weighting::sigmoid, .sigmoid_bias = 0.0}).weights).item());
    const Tensor w = looked_at(Q, K, {.weighting = Weighting::sigmoid}).weights;
    biased.push_back(sum(w).item());
    slope_of_weight = std::max(slope_of_weight, max(w * (1.0 - w)).item());
    return 0.0;
  });
  const double expected = over_length(d, [](double r) {
    return over_normal([r](double z) { return n / (1 + n * std::exp(-z * r / std::sqrt(double(d)))); });
  });
  return {mean_reading("row sum, no bias: n/2", n / 2.0, bare),
          mean_reading("row sum, -ln n: about 1", expected, biased),
          at_most("derivative of a weight", 0.25, slope_of_weight, 1e-15)};
}

// ---- 25: n tokens of pairwise cosine rho, scores gamma ln n cos: the own key has e^(gamma ln n), each other
//          e^(gamma rho ln n), so A_ii = 1 / (1 + (n-1) n^(-gamma (1-rho))). At gamma = 1/(1-rho) it is 1/2 for large n,
//          and then ||J||^2 = (A_ii (1 - A_ii))^2 + ..., ||J|| = 1/4 ---------------------------------------------------
std::vector<Reading> averaging_to_copying(const Draws&) {
  std::vector<Reading> readings;
  for (const auto& [tokens, rho, gamma] : {std::tuple{64, 0.5, 1.0}, {64, 0.5, 2.0}, {64, 0.5, 3.0}, {256, 0.2, 1.25}}) {
    const Tensor X = reshape(linalg::cholesky(eye(tokens, f64) * (1 - rho) + rho), {1, tokens, tokens});
    const Tensor A = looked_at(X, X, {.scale = gamma * std::log(double(tokens))}).weights;
    const double expected = 1 / (1 + (tokens - 1) * std::pow(double(tokens), -gamma * (1 - rho)));
    readings.push_back(identity(fmt::format("A_ii: n {}, rho {}, gamma {}", tokens, rho, gamma), expected,
                                A.at({0, 0, 0}), 1e-12));
    if (tokens == 256)
      readings.push_back(identity("|J| at the switch (limit 1/4)", 0.25, softmax_jacobian_norm(A)[0], 0.01));
  }
  return readings;
}

// ---- 28: weights n^(s x_j) / sum: one key leads by `gap`, the others are level: p_max = 1 / (1 + (n-1) n^(-s gap)),
//          which tends to 1 or to 0 as n grows, by the sign of s gap - 1 ------------------------------------------------
std::vector<Reading> scalable_softmax(const Draws&) {
  std::vector<Reading> readings;
  for (const double s : {0.5, 1.0, 2.0})
    for (const std::int64_t keys : {16, 4096}) {
      const Tensor K = concat({full({1, 1, 1}, 1.0, f64), zeros({1, keys - 1, 1}, f64)}, 1);
      const Tensor p = looked_at(full({1, 1, 1}, s, f64), K, {.scale = Scale::log_n()}).weights;
      readings.push_back(identity(fmt::format("p_max, s gap {}, n {}", s, keys),
                                  1 / (1 + double(keys - 1) * std::pow(double(keys), -s)), max(p).item(), 1e-12));
    }
  return readings;
}

// ---- 29: c tanh(x/c) has derivative 1 - tanh^2(x/c): for scores much wider than c, int (1 - tanh^2) = 2 c over a density
//          1 / (s sqrt(2 pi)). A small cap kills there what a large one leaves to softmax --------------------------------
double capped_norm(const Tensor& s, double cap) {   // || J diag(1 - tanh^2) ||, of one row
  const Tensor t = tanh(s / cap), p = reshape(softmax(t * cap), {-1});
  const Tensor J = eye(p.size(), f64) * p - reshape(p, {-1, 1}) * p;
  return norm(J * reshape(1.0 - t * t, {-1}));
}

std::vector<Reading> soft_cap(const Draws& draws) {
  constexpr double s = 32;
  const auto slopes = [&](double cap) {
    return draws.each([cap](Rng& rng) { return 1 - squared(std::tanh(s * rng.normal() / cap)); }, std::uint64_t(cap));
  };
  std::vector<Reading> readings;
  for (const double cap : {5.0, 20.0})
    readings.push_back(mean_reading(fmt::format("E[1 - tanh^2(x/t)], t {}", cap), over_normal([cap](double z) {
                                      return 1 - squared(std::tanh(s * z / cap));
                                    }), slopes(cap)));
  readings.push_back(mean_reading("limit sqrt(2/pi) t/s, t 5", std::sqrt(2 / std::numbers::pi) * 5 / s, slopes(5)));
  std::vector<double> tight, loose;   // dead rows at one cap less those at t = 10
  (void)draws.each([&](Rng& rng) {
    const Tensor scores = matmul(normal({1, 1024}, rng), normal({n, 1024}, rng), {.transpose_b = true});
    const auto dead = [&](double cap) { return capped_norm(scores, cap) < 1e-3 ? 1.0 : 0.0; };
    const double middle = dead(10);
    tight.push_back(middle - dead(5)), loose.push_back(middle - dead(50));
    return 0.0;
  }, 1024);
  for (auto& [what, sample] : {std::pair{"dead at t 10 less at t 5", &tight},
                               {"dead at t 10 less at t 50", &loose}}) {
    readings.push_back(mean_reading(what, 0, *sample));
    readings.back().is_bound = true;
  }
  return readings;
}

// ---- 30: W_q and W_k of one head times sqrt(tau / S_max): its scores times tau / S_max; other heads see nothing ------
std::vector<Reading> qk_clip(const Draws& draws) {
  constexpr double tau = 2;
  constexpr std::int64_t d = 16, heads = 2, d_k = d / heads;
  double clipped = 0, others = 0;
  const Draws fewer{std::max<std::int64_t>(draws.n / 10, 1), draws.seed, draws.stream};
  (void)fewer.each([&](Rng& rng) {
    MultiHeadAttention layer(d, heads, MultiHeadConfig{.bias = false}, rng, f64);
    const Tensor x = normal({1, 12, d}, rng) * 4.0;
    for (Tensor* W : {&layer.W_q.weight, &layer.W_k.weight}) W->assign(normal({d, d}, rng));
    const Tensor before = layer(x, {.return_weights = true}).scores;   // [heads, T, T]
    const double factor = std::sqrt(tau / max(before[0]).item());
    const Tensor by_row = concat({full({d_k, 1}, factor, f64), full({d - d_k, 1}, 1.0, f64)}, 0);
    for (Tensor* W : {&layer.W_q.weight, &layer.W_k.weight}) W->assign(*W * by_row);
    const Tensor after = layer(x, {.return_weights = true}).scores;
    clipped = std::max(clipped, std::abs(max(after[0]).item() - tau));
    others = std::max(others, max(abs(after[1] - before[1])).item());
    return 0.0;
  });
  return {identity("largest score - tau", 0, clipped, 1e-13),
          identity("change of the other head", 0, others, 1e-300)};
}

// ---- 40: softpick: relu(e^x - 1) / sum |e^x - 1|. With x from N(0, s^2), E (e^x - 1)+ = a = e^(s^2/2) Phi(s) - 1/2 and
//          E (1 - e^x)+ = b = 1/2 - e^(s^2/2) Phi(-s). The row sum tends to a / (a + b); all n are negative once in 2^n --
Tensor softpick(const Tensor& x) {
  const Tensor above = expm1(x);
  return relu(above) / sum(abs(above), Over{{-1}, true});
}

std::vector<Reading> softpick_rows(const Draws& draws) {
  const double e = std::exp(0.5), a = e * cumulative(1) - 0.5, b = 0.5 - e * cumulative(-1);
  std::vector<double> sums, zero;
  (void)draws.each([&](Rng& rng) {
    const Tensor w = softpick(normal({1, 4096}, rng));
    sums.push_back(sum(w).item());
    zero.push_back(mean((w == 0.0).to(f64)).item());
    return 0.0;
  }, 0);
  const auto dead = draws.each([](Rng& rng) { return max(softpick(normal({1, 4}, rng))).item() == 0 ? 1.0 : 0.0; }, 1);
  return {mean_reading("row sum: a / (a + b)", a / (a + b), sums),
          mean_reading("weights exactly 0", 0.5, zero),
          mean_reading("dead rows, n 4: 2^-n", 1 / 16.0, dead)};
}

// ---- 41: of x_i p_i: J = diag(p) + diag(x) (diag(p) - p p^T). At a one-hot row it is e e^T, of norm 1 ----------------
std::vector<Reading> x_softmax(const Draws& draws) {
  double off = 0;
  const auto f = [](const Tensor& x) { return x * softmax(x); };
  const auto formula = [](const Tensor& x) {
    const Tensor p = softmax(x), I = eye(x.size(), f64);
    return I * p + reshape(x, {-1, 1}) * (I * p - reshape(p, {-1, 1}) * p);
  };
  (void)draws.each([&](Rng& rng) {
    const Tensor x = normal({n}, rng) * 3.0;
    off = std::max(off, norm(jacobian(f, x) - formula(x)));
    return 0.0;
  }, 0);
  const std::vector<double> norms = draws.each([&](Rng& rng) {
    constexpr std::int64_t d = 2048;
    const Tensor s = matmul(normal({1, d}, rng), normal({n, d}, rng), {.transpose_b = true});
    return norm(formula(reshape(s, {n})));
  }, 1);
  return {identity("J by autograd - formula", 0, off, 1e-12),
          identity("median |J|, d_k 2048: limit 1", 1, median(norms), 1e-3)};
}

// ---- 42: A = P_1 - lambda P_2: dS_2 = -lambda J_2 dA, of the same distribution as lambda times dS_1 -------------------
std::vector<Reading> differential(const Draws& draws) {
  constexpr double lambda = 0.8;
  std::vector<double> first, second;
  double off = 0;
  (void)draws.each([&](Rng& rng) {
    const Tensor V = normal({n, 4}, rng);
    const auto weights = [](const std::vector<Tensor>& s) { return softmax(s[0]) - softmax(s[1]) * lambda; };
    const std::vector<Tensor> scores{normal({1, n}, rng), normal({1, n}, rng)};
    off = std::max(off, std::abs(sum(weights(scores)).item() - (1 - lambda)));
    const auto dS = vjp([&](const std::vector<Tensor>& s) { return matmul(weights(s), V); }, scores, normal({1, 4}, rng));
    first.push_back(squared(norm(dS[0]))), second.push_back(squared(norm(dS[1])));
    return 0.0;
  });
  return {identity("row sum - (1 - lambda)", 0, off, 1e-14),
          ratio_reading("E|dS_2|^2/E|dS_1|^2: lambda^2", lambda * lambda, second, first)};
}

// ---- 43: a sigmoid gate of weights 0 multiplies outputs and upstream gradients by 1/2, and no row of weights changes --
std::vector<Reading> output_gate(const Draws& draws) {
  double off = 0;
  const Draws fewer{std::max<std::int64_t>(draws.n / 10, 1), draws.seed, draws.stream};
  (void)fewer.each([&](Rng& rng) {
    const Tensor Q = normal({1, 6, 8}, rng), K = normal({1, 6, 8}, rng), V = normal({1, 6, 8}, rng);
    const Tensor x = normal({1, 6, 8}, rng), G = normal({1, 6, 8}, rng), W = zeros({8, 8}, f64);
    const auto plain = [&](const std::vector<Tensor>& in) { return attention(in[0], K, V, {.scale = false}).output; };
    const auto gated = [&](const std::vector<Tensor>& in) { return plain(in) * sigmoid(matmul(x, W)); };
    const Tensor bare = vjp(plain, {Q}, G)[0], through = vjp(gated, {Q}, G)[0];
    off = std::max(off, norm(through - bare * 0.5) / norm(bare));
    return 0.0;
  });
  return {identity("gated dQ - half of dQ", 0, off, 1e-14)};
}

// ---- 44: a sink logit b is a key of score b and value 0: dL/db = sum_q (dP_0 - delta) p_0 with dP_0 = 0 and
//          delta = sum_j P_j dP_j = rowsum(dO O). The Jacobian of the keys is a part of a softmax Jacobian -------------
std::vector<Reading> sink_logit(const Draws& draws) {
  double off = 0, top = 0;
  (void)draws.each([&](Rng& rng) {
    const Tensor S = normal({6, n}, rng) * 2.0, V = normal({n, 4}, rng), G = normal({6, 4}, rng), b = normal({1, 1}, rng);
    const auto weights = [&](const Tensor& sink) { return softmax(concat({S, broadcast_to(sink, {6, 1})}, 1)); };
    const auto output = [&](const std::vector<Tensor>& in) { return matmul(slice(weights(in[0]), 1, 0, n), V); };
    const Tensor p = weights(b), delta = sum(G * output({b}), Over{{1}, true});
    const double expected = -sum(slice(p, 1, n, n + 1) * delta).item(), found = vjp(output, {b}, G)[0].item();
    off = std::max(off, std::abs(found - expected));
    const Tensor row = reshape(slice(slice(p, 0, 0, 1), 1, 0, n), {n});
    top = std::max(top, singular_values(eye(n, f64) * row - reshape(row, {-1, 1}) * row)[0]);
    return 0.0;
  });
  return {identity("dL/db by autograd - formula", 0, off, 1e-13),
          at_most("top eigenvalue of J", 0.5, top, 1e-14)};
}

}  // namespace

std::vector<Claim> rules() {
  return {
      {15, "QK-norm makes the spread of scores independent of their sizes", "Henry 2020, arXiv 2010.04245", cosines},
      {20, "Off-by-one softmax lets a row attend to nothing, with finite gradients", "Miller 2023", off_by_one},
      {21, "Sigmoid attention needs a bias of -ln n", "Ramapuram 2024, arXiv 2409.04431", sigmoid_bias},
      {25, "Attention switches from averaging to copying at ln n / (1 - rho)", "Chen 2025, arXiv 2510.05554; formula "
       "derived here", averaging_to_copying},
      {28, "Scalable softmax keeps a leading key if and only if s gap > 1", "Nakanishi 2025, arXiv 2501.19399; formula "
       "derived here", scalable_softmax},
      {29, "A soft cap moves the death from softmax into tanh", "derived here; caps: arXiv 2408.00118", soft_cap},
      {30, "QK-clip sets the largest score of one head to tau, and touches no other", "Kimi K2, arXiv 2507.20534",
       qk_clip},
      {40, "Softpick: half of the weights are exactly 0, and a row can die whole", "arXiv 2504.20966; numbers derived here",
       softpick_rows},
      {41, "x softmax(x) does not die", "arXiv 2502.18277; limit derived here", x_softmax},
      {42, "Differential attention: the second map learns lambda times slower", "arXiv 2410.05258; ratio derived here",
       differential},
      {43, "An output gate halves gradients at the start, and revives nobody", "arXiv 2505.06708; start derived here",
       output_gate},
      {44, "A sink logit is a key without a value", "gpt-oss; derived here", sink_logit}};
}

}  // namespace surgeon::claims
