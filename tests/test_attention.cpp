// What attention means: scale, masks, dead rows, nan, weights on request; the plain path and the fused one alike. Score
// rules beyond the paper's are in test_score_rules.cpp.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "layers/layers.hpp"
#include "tests/values.hpp"

using namespace surgeon;
using namespace surgeon::tests;

namespace {

const double not_a_number = std::numeric_limits<double>::quiet_NaN();
const double inf = std::numeric_limits<double>::infinity();

Tensor normal(const Shape& shape, std::uint64_t seed, Dtype dtype = Dtype::float64) {
  Rng rng(seed);
  return randn(shape, rng, dtype);
}

double distance(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  return a.size() ? max(abs(a.to(Dtype::float64) - b.to(Dtype::float64))).item() : 0.0;
}

Tensor row(const Tensor& x, std::int64_t t) { return slice(x, 1, t, t + 1); }

// x with row t of every batch entry replaced by one value.
Tensor with_row(const Tensor& x, std::int64_t t, double value) {
  return concat({slice(x, 1, 0, t), full({x.shape(0), 1, x.shape(2)}, value, x.dtype()), slice(x, 1, t + 1)}, 1);
}

struct Inputs3 {
  Tensor Q, K, V;
};

Inputs3 inputs(std::int64_t T, Dtype dtype, std::int64_t d_k = 4, std::int64_t d_v = 3) {
  return {normal({2, T, d_k}, 1, dtype), normal({2, T, d_k}, 2, dtype), normal({2, T, d_v}, 3, dtype)};
}

// The fused path has a kernel for few queries of widths that fill vectors, and one for all else.
const std::pair<std::int64_t, std::int64_t> widths[] = {{4, 3}, {16, 16}};

// [3, 3]: query 1 sees nothing.
const Tensor& dead_row_mask() {
  static const Tensor mask = tensor({true, true, false, false, false, false, true, false, true}, {3, 3});
  return mask;
}

}  // namespace

TEST_SUITE("attention") {

TEST_CASE("attention: the formula, by hand, for two queries and two keys") {
  const Tensor Q = tensor({1.0, 0.0, 0.0, 2.0}, {1, 2, 2}), K = tensor({1.0, 1.0, 0.0, 1.0}, {1, 2, 2});
  const Tensor V = tensor({1.0, 3.0}, {1, 2, 1});
  const auto [output, weights, scores] = attention(Q, K, V, {.return_weights = true});
  const double s = 1.0 / std::sqrt(2.0), p = 1.0 / (1.0 + std::exp(-s));
  CHECK(distance(scores, tensor({s, 0.0, 2 * s, 2 * s}, {1, 2, 2})) < 1e-15);
  CHECK(distance(weights, tensor({p, 1 - p, 0.5, 0.5}, {1, 2, 2})) < 1e-15);
  CHECK(distance(output, tensor({p + 3 * (1 - p), 2.0}, {1, 2, 1})) < 1e-15);
}

TEST_CASE("attention: .scale is 1/sqrt(d_k), 1 or the number given") {
  const Inputs3 drawn = inputs(3, Dtype::float64);
  const Tensor &Q = drawn.Q, &K = drawn.K, &V = drawn.V;
  const Tensor products = matmul(Q, K, {.transpose_b = true});
  const auto scores = [&](Scale scale) { return attention(Q, K, V, {.scale = scale, .return_weights = true}).scores; };
  CHECK(distance(scores(true), products * 0.5) < 1e-15);
  CHECK(distance(scores(false), products) == 0.0);
  CHECK(distance(scores(0.3), products * 0.3) < 1e-15);
  CHECK(distance(attention(Q, K, V, {.scale = 0.3}).output, attention(Q, K * 0.3, V, {.scale = false}).output) < 1e-14);
}

TEST_CASE("attention: weights and scores are empty unless asked for, and asking never changes the answer") {
  for (const auto& [d_k, d_v] : widths)
    for (Dtype dtype : {Dtype::float32, Dtype::float64})
      for (const Tensor& mask : {Tensor(), causal_mask(3), reverse_mask(3), dead_row_mask()}) {
        const Inputs3 drawn = inputs(3, dtype, d_k, d_v);
        const Tensor &Q = drawn.Q, &K = drawn.K, &V = drawn.V;
        const auto without = attention(Q, K, V, {.mask = mask});
        const auto with = attention(Q, K, V, {.mask = mask, .return_weights = true});
        CHECK(without.weights.empty());
        CHECK(without.scores.empty());
        CHECK(distance(with.output, without.output) < (dtype == Dtype::float32 ? 1e-6 : 1e-15));
        CHECK(with.weights.shape() == Shape{2, 3, 3});
        CHECK(distance(softmax(with.scores), with.weights) < 1e-7);
      }
}

TEST_CASE("attention: weights and scores are tensors on the way, so gradients can be asked for them by name") {
  const Inputs3 drawn = inputs(3, Dtype::float64);
  const Tensor &Q = drawn.Q, &K = drawn.K, &V = drawn.V;
  const auto [output, weights, scores] = attention(Q, K, V, {.mask = causal_mask(3), .return_weights = true});
  const Tensor g = normal(output.shape(), 9);
  const auto [dP, dS, dQ] = grad(output, {weights, scores, Q}, {.cotangent = g});
  CHECK(distance(dP, matmul(g, V, {.transpose_b = true})) < 1e-14);
  const Tensor expected = weights * (dP - sum(weights * dP, {.axes = {-1}, .keepdims = true}));
  CHECK(distance(dS, expected) < 1e-14);
  CHECK(distance(dQ, matmul(dS, K) * 0.5) < 1e-14);
}

TEST_CASE("attention: what a mask forbids has weight exactly 0 and score -inf") {
  const Inputs3 drawn = inputs(3, Dtype::float32);
  const Tensor &Q = drawn.Q, &K = drawn.K, &V = drawn.V;
  const auto [output, weights, scores] = attention(Q, K, V, {.mask = causal_mask(3), .return_weights = true});
  for (std::int64_t i = 0; i < 3; ++i)
    for (std::int64_t j = 0; j < 3; ++j) {
      CHECK((weights.at({1, i, j}) == 0.0) == (j > i));
      CHECK((scores.at({1, i, j}) == -inf) == (j > i));
    }
  CHECK(distance(row(output, 0), row(V, 0)) < 1e-6);   // the first query sees only the first key
}

TEST_CASE("attention: the notebook's reverse mask lets the last query see only the last key") {
  const Inputs3 drawn = inputs(3, Dtype::float64);
  const Tensor &Q = drawn.Q, &K = drawn.K, &V = drawn.V;
  const auto output = attention(Q, K, V, {.mask = reverse_mask(3)}).output;
  CHECK(distance(row(output, 2), row(V, 2)) < 1e-15);
  CHECK(distance(row(output, 0), row(attention(Q, K, V).output, 0)) < 1e-15);
}

TEST_CASE("attention: a mask of all true is no mask; boolean and float masks mean the same") {
  for (bool keep : {false, true}) {
    const Inputs3 drawn = inputs(3, Dtype::float64);
    const Tensor &Q = drawn.Q, &K = drawn.K, &V = drawn.V;
    const auto output = [&](const Tensor& mask) {
      return attention(Q, K, V, {.mask = mask, .return_weights = keep}).output;
    };
    CHECK(distance(output(no_mask(3)), output(Tensor())) < 1e-15);
    CHECK(list(output(causal_mask(3).to(Dtype::float32))) == list(output(causal_mask(3))));
    CHECK(list(output(causal_mask(3).to(Dtype::float64))) == list(output(causal_mask(3))));
    CHECK(list(output(broadcast_to(causal_mask(3), {2, 3, 3}))) == list(output(causal_mask(3))));
  }
}

TEST_CASE("attention: a mask may differ from one batch entry to the next") {
  const Inputs3 drawn = inputs(3, Dtype::float64);
  const Tensor &Q = drawn.Q, &K = drawn.K, &V = drawn.V;
  const Tensor mask = stack({causal_mask(3), reverse_mask(3)}, 0);
  for (bool keep : {false, true}) {
    const Tensor y = attention(Q, K, V, {.mask = mask, .return_weights = keep}).output;
    const Tensor a = attention(Q, K, V, {.mask = causal_mask(3)}).output;
    const Tensor b = attention(Q, K, V, {.mask = reverse_mask(3)}).output;
    CHECK(distance(slice(y, 0, 0, 1), slice(a, 0, 0, 1)) < 1e-15);
    CHECK(distance(slice(y, 0, 1, 2), slice(b, 0, 1, 2)) < 1e-15);
  }
}

// ---- Dead rows -----------------------------------------------------------------------------------------------------

TEST_CASE("attention: a row that sees nothing has weights 0, output 0 and gradients 0, on both paths, both orders") {
  for (const auto& [d_k, d_v] : widths)
    for (Dtype dtype : {Dtype::float32, Dtype::float64})
      for (bool keep : {false, true})
        for (bool create_graph : {false, true}) {
          INFO(to_string(dtype), " weights ", keep, " graph ", create_graph);
          const Inputs3 drawn = inputs(3, dtype, d_k, d_v);
          const Tensor &Q = drawn.Q, &K = drawn.K, &V = drawn.V;
          const auto result = attention(Q, K, V, {.mask = dead_row_mask(), .return_weights = keep});
          CHECK(max(abs(row(result.output, 1))).item() == 0.0);
          if (keep) CHECK(max(abs(row(result.weights, 1))).item() == 0.0);
          const Tensor g = normal(result.output.shape(), 9, dtype);
          const auto [dQ, dK, dV] = grad(result.output, {Q, K, V}, {.cotangent = g, .create_graph = create_graph});
          CHECK(max(abs(row(dQ, 1))).item() == 0.0);
          for (const Tensor& d : {dQ, dK, dV}) CHECK(all_finite(d));
          // The dead query's cotangent reaches nobody.
          const Tensor changed = with_row(g, 1, 1e6);
          const auto other = grad(result.output, {Q, K, V}, {.cotangent = changed, .create_graph = create_graph});
          CHECK(list(other[1]) == list(dK));
          CHECK(list(other[2]) == list(dV));
        }
}

TEST_CASE("attention: where every row is dead all is 0, second derivatives too") {
  const Inputs3 drawn = inputs(3, Dtype::float64);
  const Tensor &Q = drawn.Q, &K = drawn.K, &V = drawn.V;
  const Tensor none = zeros({3, 3}, Dtype::boolean);
  for (bool keep : {false, true}) {
    const Function f = [&](const std::vector<Tensor>& in) {
      const Tensor y = attention(in[0], in[1], in[2], {.mask = none, .return_weights = keep}).output;
      return sum(y * y + y);
    };
    CHECK(f({Q, K, V}).item() == 0.0);
    for (const Tensor& h : hvp(f, {Q, K, V}, {Q, K, V})) CHECK(max(abs(h)).item() == 0.0);
  }
}

TEST_CASE("attention: without queries, batch or width of values, on both paths, under any mask") {
  for (const std::int64_t Tk : {6, 70})
    for (const Shape& s : std::vector<Shape>{{2, 0, 3}, {0, 5, 3}, {2, 5, 0}, {0, 0, 0}})   // batch, Tq, d_v
      for (const Dtype dtype : {Dtype::float32, Dtype::float64})
        for (const bool heads : {false, true})
          for (const bool keep : {false, true})
            for (int rule = 0; rule < 4; ++rule) {
              INFO(to_string(s), " Tk ", Tk, " heads ", heads, " weights ", keep, " rule ", rule);
              const auto shape = [&](std::int64_t T, std::int64_t d) {
                return heads ? Shape{s[0], 2, T, d} : Shape{s[0], T, d};
              };
              const Tensor Q = normal(shape(s[1], 4), 1, dtype), K = normal(shape(Tk, 4), 2, dtype);
              const Tensor V = normal(shape(Tk, s[2]), 3, dtype);
              AttentionOptions options{.return_weights = keep, .causal = rule == 1, .window = rule == 2 ? 3 : 0};
              if (rule == 3) options.mask = ones({s[1], Tk}, Dtype::boolean);
              const Tensor y = attention(Q, K, V, options).output;
              CHECK(y.shape() == shape(s[1], s[2]));
              const auto [dQ, dK, dV] = grad(y, {Q, K, V}, {.cotangent = ones_like(y)});
              CHECK(dQ.shape() == Q.shape());
              CHECK(distance(dK, zeros_like(K)) == 0.0);
              CHECK(distance(dV, zeros_like(V)) == 0.0);
            }
}

// ---- nan -----------------------------------------------------------------------------------------------------------

TEST_CASE("attention: nan and inf in a masked-out key or value never reach output or gradients") {
  for (const auto& [d_k, d_v] : widths)
    for (Dtype dtype : {Dtype::float32, Dtype::float64})
      for (bool keep : {false, true})
        for (double bad : {not_a_number, inf, -inf}) {
          INFO(to_string(dtype), " weights ", keep, " ", bad);
          const Inputs3 drawn = inputs(3, dtype, d_k, d_v);
          const Tensor &Q = drawn.Q, &K = drawn.K, &V = drawn.V;
          const Tensor mask = tensor({true, true, false}, {1, 3});   // key 2 is padding
          const auto run = [&](const Tensor& k, const Tensor& v) {
            const Tensor y = attention(Q, k, v, {.mask = broadcast_to(mask, {3, 3}), .return_weights = keep}).output;
            auto all = grad(y, std::vector<Tensor>{Q, k, v}, {.cotangent = normal(y.shape(), 9, dtype)});
            all.push_back(y);
            return all;
          };
          const auto clean = run(with_row(K, 2, 7.0), with_row(V, 2, 7.0));
          const auto soiled = run(with_row(K, 2, bad), with_row(V, 2, bad));
          for (std::size_t i = 0; i < clean.size(); ++i) {
            CHECK(all_finite(soiled[i]));
            CHECK(distance(clean[i], soiled[i]) < 1e-6);
          }
        }
}

TEST_CASE("attention: under a causal mask a nan in the last token leaves earlier rows alone") {
  for (const auto& [d_k, d_v] : widths)
    for (bool keep : {false, true})
      for (std::int64_t T : {3, 40}) {
        const Inputs3 drawn = inputs(T, Dtype::float32, d_k, d_v);
        const Tensor &Q = drawn.Q, &K = drawn.K, &V = drawn.V;
        const auto run = [&](double last) {
          const Tensor q = with_row(Q, T - 1, last), k = with_row(K, T - 1, last), v = with_row(V, T - 1, last);
          return attention(q, k, v, {.mask = causal_mask(T), .return_weights = keep}).output;
        };
        const Tensor soiled = run(not_a_number), clean = run(1.0);
        CHECK(all_nan(row(soiled, T - 1)));   // its own row sees it
        CHECK(distance(slice(soiled, 1, 0, T - 1), slice(clean, 1, 0, T - 1)) < 1e-6);
      }
}

TEST_CASE("attention: a nan in one query spoils the gradients of the keys it sees, and of no other") {
  for (const auto& width : widths)
    for (Dtype dtype : {Dtype::float32, Dtype::float64})
      for (bool keep : {false, true})
        for (std::int64_t T : {3, 40}) {
          const auto [d_k, d_v] = width;
          INFO(to_string(dtype), " weights ", keep, " T ", T, " d_k ", width.first);
          const Inputs3 drawn = inputs(T, dtype, d_k, d_v);
          const Tensor Q = with_row(drawn.Q, 0, not_a_number), &K = drawn.K, &V = drawn.V;
          const Tensor y = attention(Q, K, V, {.mask = causal_mask(T), .return_weights = keep}).output;
          const auto [dQ, dK, dV] = grad(y, {Q, K, V}, {.cotangent = normal(y.shape(), 9, dtype)});
          for (const Tensor& d : {dQ, dK, dV}) {
            CHECK(all_nan(row(d, 0)));
            CHECK(all_finite(slice(d, 1, 1)));
          }
        }
}

TEST_CASE("attention: a true nan is never hidden") {
  for (const auto& [d_k, d_v] : widths)
    for (Dtype dtype : {Dtype::float32, Dtype::float64})
      for (bool keep : {false, true})
        for (const Tensor& mask : {Tensor(), no_mask(3), causal_mask(3)}) {
          INFO(to_string(dtype), " weights ", keep, " mask ", mask.empty() ? "none" : "some");
          const Inputs3 drawn = inputs(3, dtype, d_k, d_v);
          const Tensor &Q = drawn.Q, &K = drawn.K, &V = drawn.V;
          const auto output = [&](const Tensor& q, const Tensor& k, const Tensor& v) {
            return attention(q, k, v, {.mask = mask, .return_weights = keep}).output;
          };
          const Tensor of_query = output(with_row(Q, 1, not_a_number), K, V);
          CHECK(all_nan(row(of_query, 1)));
          CHECK(all_finite(row(of_query, 0)));
          CHECK(all_finite(row(of_query, 2)));
          CHECK(all_nan(output(Q, with_row(K, 0, not_a_number), V)));   // every query sees key 0
          CHECK(all_nan(output(Q, K, with_row(V, 0, not_a_number))));
          CHECK(all_nan(row(output(Q, K, with_row(V, 2, not_a_number)), 2)));
        }
}

TEST_CASE("attention: one nan in one component of one value spoils that component only") {
  const Inputs3 drawn = inputs(3, Dtype::float64);
  const Tensor &Q = drawn.Q, &K = drawn.K, &V = drawn.V;
  std::vector<double> values = list(V);
  values[0] = not_a_number;   // batch 0, key 0, component 0
  for (bool keep : {false, true})
    for (const Tensor& mask : {Tensor(), causal_mask(3)}) {
      const Tensor y = attention(Q, K, tensor(values, V.shape()), {.mask = mask, .return_weights = keep}).output;
      for (std::int64_t i = 0; i < 3; ++i) {
        CHECK(std::isnan(y.at({0, i, 0})));
        CHECK(std::isfinite(y.at({0, i, 1})));
        CHECK(std::isfinite(y.at({1, i, 0})));
      }
    }
}

TEST_CASE("attention: huge scores saturate and stay finite, gradients too") {
  for (const auto& [d_k, d_v] : widths)
    for (Dtype dtype : {Dtype::float32, Dtype::float64})
      for (bool keep : {false, true}) {
        const Inputs3 drawn = inputs(3, dtype, d_k, d_v);
        const Tensor &Q = drawn.Q, &K = drawn.K, &V = drawn.V;
        const Tensor q = Q * 1e4, k = K * 1e4;
        const Tensor y = attention(q, k, V, {.mask = causal_mask(3), .return_weights = keep}).output;
        CHECK(all_finite(y));
        for (const Tensor& d : grad(sum(y * y), {q, k, V})) CHECK(all_finite(d));
      }
}

// ---- What theory says ----------------------------------------------------------------------------------------------

TEST_CASE("attention: unscaled scores have variance d_k, scaled ones 1") {
  for (std::int64_t d_k : {16, 64, 256}) {
    const Tensor Q = normal({64, 16, d_k}, 1), K = normal({64, 16, d_k}, 2), V = normal({64, 16, 1}, 3);
    const auto scores = [&](bool scale) { return attention(Q, K, V, {.scale = scale, .return_weights = true}).scores; };
    CHECK(var(scores(false)).item() == doctest::Approx(double(d_k)).epsilon(0.05));
    CHECK(var(scores(true)).item() == doctest::Approx(1.0).epsilon(0.05));
  }
}

TEST_CASE("attention: the softmax Jacobian is diag(p) - p p^T, its norm the formula's, its largest eigenvalue <= 1/2") {
  const Tensor x = normal({6}, 5) * 2.0, p = softmax(x);
  const Tensor J = jacobian([](const Tensor& z) { return softmax(z); }, x);
  CHECK(distance(J, eye(6, Dtype::float64) * p - reshape(p, {6, 1}) * reshape(p, {1, 6})) < 1e-15);
  const double p2 = sum(p * p).item(), p3 = sum(p * p * p).item();
  CHECK(sum(J * J).item() == doctest::Approx(p2 - 2 * p3 + p2 * p2));
  CHECK(sum(J * eye(6, Dtype::float64)).item() == doctest::Approx(1.0 - p2));
  const Tensor half = jacobian([](const Tensor& z) { return softmax(z); }, zeros({2}, Dtype::float64));
  const Tensor v = tensor({1.0, -1.0}, {2});
  CHECK(distance(matmul(half, v), 0.5 * v) < 1e-16);   // the bound is reached at p = (1/2, 1/2)
  Tensor u = normal({6}, 6);
  for (int i = 0; i < 50; ++i) u = matmul(J, u) / sqrt(sum(u * u));
  CHECK(sqrt(sum(u * u)).item() <= 0.5);
}

TEST_CASE("attention: in float32 the winner's own gradient dies once the gap exceeds ln 2^24") {
  const auto slope = [](double gap) {   // d p_0 / d s_0 for scores (gap, 0)
    const Tensor s = tensor({float(gap), 0.f}, {2});
    return grad(slice(softmax(s), 0, 0, 1), {s})[0].at({0});
  };
  CHECK(slope(15.0) > 0.0);
  CHECK(slope(18.0) == 0.0);
}

TEST_CASE("attention: the gradient of the key bias of MultiHeadAttention is 0, that of the others is not") {
  Rng rng(3);
  const MultiHeadAttention mha(8, 2, rng, Dtype::float64);
  const Tensor x = normal({2, 5, 8}, 4);
  for (const Tensor& mask : {Tensor(), causal_mask(5)}) {
    const Tensor loss = sum(pow(mha(x, {.mask = mask}).output, 2.0));
    const auto [dq, dk, dv] = grad(loss, {mha.W_q.bias, mha.W_k.bias, mha.W_v.bias});
    CHECK(max(abs(dk)).item() < 1e-15);
    CHECK(max(abs(dq)).item() > 1e-4);
    CHECK(max(abs(dv)).item() > 1e-4);
  }
}

TEST_CASE("attention: MultiHeadAttention is attention per head between four linear maps") {
  Rng rng(3);
  const MultiHeadAttention mha(6, 3, rng, Dtype::float64);
  const Tensor x = normal({2, 4, 6}, 4), mask = causal_mask(4);
  const Tensor Q = mha.W_q(x), K = mha.W_k(x), V = mha.W_v(x);
  std::vector<Tensor> heads, weights;
  for (std::int64_t h = 0; h < 3; ++h) {
    const auto part = [&](const Tensor& t) { return slice(t, 2, 2 * h, 2 * h + 2); };
    const auto result = attention(part(Q), part(K), part(V), {.mask = mask, .return_weights = true});
    heads.push_back(result.output);
    weights.push_back(result.weights);
  }
  const Tensor expected = mha.W_o(concat(heads, 2));
  CHECK(distance(mha(x, {.mask = mask}).output, expected) < 1e-14);
  const auto kept = mha(x, {.mask = mask, .return_weights = true});
  CHECK(distance(kept.output, expected) < 1e-14);
  CHECK(kept.weights.shape() == Shape{6, 4, 4});
  CHECK(distance(kept.weights, reshape(stack(weights, 1), {6, 4, 4})) < 1e-15);   // head index fastest
}

TEST_CASE("attention: one head of width d_model differs from several, and heads share no weights") {
  Rng one_rng(3), two_rng(3);
  const MultiHeadAttention one(8, 1, one_rng, Dtype::float64), two(8, 2, two_rng, Dtype::float64);
  const Tensor x = normal({1, 4, 8}, 4);
  CHECK(distance(one.W_q.weight, two.W_q.weight) == 0.0);
  CHECK(distance(one(x).output, two(x).output) > 1e-3);
}

TEST_CASE("attention: four axes are a batch of heads") {
  const Tensor Q = normal({2, 3, 5, 4}, 1), K = normal({2, 3, 6, 4}, 2), V = normal({2, 3, 6, 7}, 3);
  const auto flat = [](const Tensor& x) { return reshape(x, {6, x.shape(2), x.shape(3)}); };
  for (bool keep : {false, true}) {
    const Tensor y = attention(Q, K, V, {.return_weights = keep}).output;
    CHECK(y.shape() == Shape{2, 3, 5, 7});
    CHECK(distance(flat(y), attention(flat(Q), flat(K), flat(V)).output) < 1e-15);
  }
}

}  // TEST_SUITE
