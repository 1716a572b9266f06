// Properties that hold for all inputs, tried on inputs that rapidcheck draws and, on a failure, shrinks. The seed is
// fixed; RC_PARAMS="seed=..." tries another.
#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "layers/layers.hpp"
#include "tests/op_cases.hpp"

using namespace surgeon;

namespace {

const bool seeded = setenv("RC_PARAMS", "seed=20260 max_success=60 verbose_progress=0", 0) == 0;

template <class Property>
void holds(const char* text, const Property& property) {
  const bool always = rc::check(text, property);
  CHECK_MESSAGE(always, text);
}

int between(int low, int high) { return *rc::gen::inRange(low, high + 1); }

Shape any_shape(int max_rank = 3, int max_size = 5) {
  Shape shape(std::size_t(between(1, max_rank)));
  for (auto& size : shape) size = between(1, max_size);
  return shape;
}

Tensor normal(const Shape& shape) {
  Rng rng(std::uint64_t(*rc::gen::arbitrary<std::uint32_t>()));
  return randn(shape, rng, Dtype::float64);
}

double distance(const Tensor& a, const Tensor& b) {
  RC_ASSERT(a.shape() == b.shape());
  return a.size() ? max(abs(a - b)).item() : 0.0;
}

double size_of(const Tensor& x) { return x.size() ? max(abs(x)).item() : 0.0; }

double dot(const Tensor& a, const Tensor& b) { return sum(a * b).item(); }

std::vector<std::int64_t> any_order(std::int64_t n) {
  Rng rng(std::uint64_t(*rc::gen::arbitrary<std::uint32_t>()));
  return permutation(n, rng);
}

// Rows of x [B, T, d] in another order.
Tensor reordered(const Tensor& x, const std::vector<std::int64_t>& order) {
  std::vector<Tensor> rows;
  for (std::int64_t t : order) rows.push_back(slice(x, 1, t, t + 1));
  return concat(rows, 1);
}

struct Heads {
  Tensor Q, K, V;
};

Heads any_attention(std::int64_t Tq, std::int64_t Tk) {
  const auto width = [] { const int w = between(1, 12); return w > 9 ? 16 : w; };   // 16 fills vectors
  const std::int64_t B = between(1, 2), d = width(), d_v = width();
  return {normal({B, Tq, d}), normal({B, Tk, d}), normal({B, Tk, d_v})};
}

Tensor any_mask(std::int64_t Tq, std::int64_t Tk) {
  std::vector<unsigned char> sees(std::size_t(Tq * Tk));
  for (auto& s : sees) s = static_cast<unsigned char>(between(0, 1));
  return tensor(sees, {Tq, Tk});
}

}  // namespace

TEST_SUITE("properties") {

TEST_CASE("properties: softmax is positive, sums to 1, and does not see a constant added to its slice") {
  CHECK(seeded);
  holds("softmax", [] {
    const Tensor x = normal(any_shape());
    const int axis = between(-x.rank(), x.rank() - 1);
    const Tensor y = softmax(x, axis);
    RC_ASSERT(min(y).item() > 0.0);
    RC_ASSERT(distance(sum(y, axis), ones(sum(y, axis).shape(), Dtype::float64)) < 1e-14);
    const Tensor shift = normal(max(x, {.axes = {axis}, .keepdims = true}).shape()) * 50.0;
    RC_ASSERT(distance(softmax(x + shift, axis), y) < 1e-12);
    RC_ASSERT(distance(log_softmax(x + shift, axis), log_softmax(x, axis)) < 1e-12);
    RC_ASSERT(distance(exp(log_softmax(x, axis)), y) < 1e-14);
  });
}

TEST_CASE("properties: gradients of softmax sum to 0 over the slice, since a shift changes nothing") {
  holds("softmax's gradient", [] {
    const Tensor x = normal(any_shape()), g = normal(x.shape());
    const int axis = between(0, x.rank() - 1);
    for (bool create_graph : {false, true}) {
      const auto [dx] = grad(softmax(x, axis), {x}, {.cotangent = g, .create_graph = create_graph});
      RC_ASSERT(size_of(sum(dx, axis)) < 1e-13);
    }
  });
}

TEST_CASE("properties: logsumexp moves with a shift, and lies between max and max + ln n") {
  holds("logsumexp", [] {
    const Tensor x = normal(any_shape());
    const double c = between(-1000, 1000);
    RC_ASSERT(distance(logsumexp(x + c), logsumexp(x) + c) < 1e-12 * (1.0 + std::abs(c)));
    RC_ASSERT(logsumexp(x).item() >= max(x).item());
    RC_ASSERT(logsumexp(x).item() <= max(x).item() + std::log(double(x.size())) + 1e-14);
  });
}

TEST_CASE("properties: layer_norm does not see a shift or a positive scale; rms_norm not a scale") {
  holds("norms", [] {
    const std::int64_t n = between(2, 20);
    const Tensor x = normal({3, n}) + 9.0 * arange(double(n), Dtype::float64);   // never a row of equals
    const Tensor gamma = normal({n}), beta = normal({n});
    const double tiny = 1e-14;
    const Tensor y = layer_norm(x, gamma, beta, tiny);
    RC_ASSERT(distance(layer_norm(x * 3.0 + 7.0, gamma, beta, tiny), y) < 1e-10 * (1.0 + size_of(y)));
    RC_ASSERT(distance(rms_norm(x * 0.25, gamma, tiny), rms_norm(x, gamma, tiny)) < 1e-10 * (1.0 + size_of(gamma)));
  });
}

TEST_CASE("properties: linear ops are linear: f(a x + b y) = a f(x) + b f(y)") {
  const std::vector<Tensor (*)(const Tensor&)> linear_ops = {
      [](const Tensor& x) { return sum(x, 0); },
      [](const Tensor& x) { return mean(x, -1); },
      [](const Tensor& x) { return cumsum(x, -1); },
      [](const Tensor& x) { return transpose(x, 0, -1); },
      [](const Tensor& x) { return reshape(x, {-1}); },
      [](const Tensor& x) { return slice(x, -1, 0, to_end, 2); },
      [](const Tensor& x) { return concat({x, x}, 0); },
      [](const Tensor& x) { return stack({x, x}, -1); },
      [](const Tensor& x) { return x.rank() > 1 ? tril(x) : x; },
      [](const Tensor& x) { return matmul(x, ones({x.shape(-1), 2}, Dtype::float64)); },
      [](const Tensor& x) { return x / 3.0; },
      [](const Tensor& x) { Rng rng(1); return dropout(x, 0.3, rng); }};
  for (const auto f : linear_ops)
    holds("linear", [f] {
      const Shape shape = any_shape();
      const Tensor x = normal(shape), y = normal(shape);
      const double a = between(-5, 5), b = between(-5, 5);
      RC_ASSERT(distance(f(a * x + b * y), a * f(x) + b * f(y)) < 1e-12);
    });
}

TEST_CASE("properties: adjointness, <J v, u> = <v, J^T u>, for every row of the op table") {
  const auto rows = tests::op_cases();
  std::uint64_t seed = 0;
  for (const auto& row : rows) {
    Rng rng(++seed);
    std::vector<Tensor> v;
    for (const Tensor& x : row.inputs) v.push_back(randn(x.shape(), rng, Dtype::float64));
    const Tensor Jv = jvp(row.f, row.inputs, v), u = randn(Jv.shape(), rng, Dtype::float64);
    const auto JTu = vjp(row.f, row.inputs, u);
    double left = dot(Jv, u), right = 0.0, size = size_of(Jv) * size_of(u);
    for (std::size_t i = 0; i < v.size(); ++i) right += dot(v[i], JTu[i]);
    const double tolerance = 1e-11 * (1.0 + size * double(Jv.size()));
    CHECK_MESSAGE(std::abs(left - right) <= tolerance, row.name, ": ", left, " and ", right);
  }
}

TEST_CASE("properties: Hessians are symmetric, <H v, w> = <v, H w>, for every row of the op table") {
  const auto rows = tests::op_cases();
  std::uint64_t seed = 1000;
  for (const auto& row : rows) {
    Rng rng(++seed);
    const Function f = [&](const std::vector<Tensor>& in) { const Tensor y = row.f(in); return sum(y * y); };
    std::vector<Tensor> v, w;
    for (const Tensor& x : row.inputs) {
      v.push_back(randn(x.shape(), rng, Dtype::float64));
      w.push_back(randn(x.shape(), rng, Dtype::float64));
    }
    const auto Hv = hvp(f, row.inputs, v), Hw = hvp(f, row.inputs, w);
    double left = 0.0, right = 0.0, size = 1.0;
    for (std::size_t i = 0; i < v.size(); ++i) {
      left += dot(Hv[i], w[i]);
      right += dot(v[i], Hw[i]);
      size += size_of(Hv[i]) * double(v[i].size());
    }
    CHECK_MESSAGE(std::abs(left - right) <= 1e-10 * size, row.name, ": ", left, " and ", right);
  }
}

TEST_CASE("properties: broadcasting is what broadcast_to says, in value and in gradient") {
  holds("broadcasting", [] {
    Shape full = any_shape(4, 4), a = full, b = full;
    for (std::size_t i = 0; i < full.size(); ++i) {
      if (between(0, 2) == 0) a[i] = 1;
      if (between(0, 2) == 0) b[i] = 1;
    }
    for (std::size_t i = 0; i < full.size(); ++i) full[i] = std::max(a[i], b[i]);
    a.erase(a.begin(), a.begin() + between(0, int(a.size())));
    const Tensor x = normal(a), y = normal(b) + 3.0;
    for (std::size_t i = 0; i + a.size() < full.size(); ++i) full[i] = b[i];
    const Tensor wide_x = broadcast_to(x, full), wide_y = broadcast_to(y, full), g = normal(full);
    for (auto f : {+[](const Tensor& p, const Tensor& q) { return p * q; }, +[](const Tensor& p, const Tensor& q) {
           return p - q; }, +[](const Tensor& p, const Tensor& q) { return maximum(p, q); }}) {
      RC_ASSERT(distance(f(x, y), f(wide_x, wide_y)) == 0.0);
      const auto [dx, dy] = grad(f(x, y), {x, y}, {.cotangent = g});
      const auto [wx, wy] = grad(f(wide_x, wide_y), {x, y}, {.cotangent = g});
      RC_ASSERT(distance(dx, wx) < 1e-12);
      RC_ASSERT(distance(dy, wy) < 1e-12);
    }
  });
}

TEST_CASE("properties: moving numbers and moving them back changes nothing") {
  holds("round trips", [] {
    const Tensor x = normal(any_shape(4, 4));
    std::vector<int> order, back(std::size_t(x.rank()));
    for (std::int64_t axis : any_order(x.rank())) order.push_back(int(axis));
    for (std::size_t i = 0; i < order.size(); ++i) back[std::size_t(order[i])] = int(i);
    RC_ASSERT(distance(permute(permute(x, order), back), x) == 0.0);
    RC_ASSERT(distance(reshape(reshape(x, {-1}), x.shape()), x) == 0.0);
    const int axis = between(0, x.rank() - 1);
    const std::int64_t n = x.shape(axis), cut = between(0, int(n));
    RC_ASSERT(distance(concat({slice(x, axis, 0, cut), slice(x, axis, cut)}, axis), x) == 0.0);
    RC_ASSERT(distance(slice(slice(x, axis, -1, -to_end, -1), axis, -1, -to_end, -1), x) == 0.0);
    if (x.rank() > 1) RC_ASSERT(distance(tril(x) + triu(x, 1), x) == 0.0);
  });
}

TEST_CASE("properties: reducing axes one by one is reducing them together") {
  holds("reductions", [] {
    const Tensor x = normal({between(1, 5), between(1, 5), between(1, 20)});
    RC_ASSERT(distance(sum(sum(x, 2), 0), sum(x, {0, 2})) < 1e-12);
    RC_ASSERT(distance(max(max(x, -1), 0), max(x, {-1, 0})) == 0.0);
    RC_ASSERT(distance(min(x), -max(-x)) == 0.0);
    RC_ASSERT(distance(logsumexp(logsumexp(x, 1), 1), logsumexp(x, {1, 2})) < 1e-13);
    RC_ASSERT(distance(slice(cumsum(x, 2), 2, -1), sum(x, {.axes = {2}, .keepdims = true})) < 1e-12);
    if (x.size() > 1) RC_ASSERT(distance(var(x), sum(pow(x - mean(x), 2.0)) / double(x.size() - 1)) < 1e-12);
  });
}

TEST_CASE("properties: (A B) C = A (B C), (A B)^T = B^T A^T, and the transposing options are transposes") {
  holds("products", [] {
    const std::int64_t m = between(1, 8), k = between(0, 8), n = between(1, 8), p = between(1, 8);
    const Tensor A = normal({m, k}), B = normal({k, n}), C = normal({n, p});
    RC_ASSERT(distance(matmul(matmul(A, B), C), matmul(A, matmul(B, C))) < 1e-11);
    const Tensor At = transpose(A, 0, 1), Bt = transpose(B, 0, 1);
    RC_ASSERT(distance(transpose(matmul(A, B), 0, 1), matmul(Bt, At)) < 1e-13);
    RC_ASSERT(distance(matmul(At, B, {.transpose_a = true}), matmul(A, B)) < 1e-13);
    RC_ASSERT(distance(matmul(A, Bt, {.transpose_b = true}), matmul(A, B)) < 1e-13);
    RC_ASSERT(distance(matmul(At, Bt, {.transpose_a = true, .transpose_b = true}), matmul(A, B)) < 1e-13);
    const Tensor batch = normal({3, m, k});
    for (std::int64_t i = 0; i < 3; ++i)
      RC_ASSERT(distance(reshape(slice(matmul(batch, B), 0, i, i + 1), {m, n}),
                         matmul(reshape(slice(batch, 0, i, i + 1), {m, k}), B)) < 1e-13);
  });
}

// ---- Attention -----------------------------------------------------------------------------------------------------

TEST_CASE("properties: attention does not see the order of keys, and follows the order of queries") {
  holds("permutations", [] {
    const std::int64_t Tq = between(1, 12), Tk = between(1, 12);
    const auto [Q, K, V] = any_attention(Tq, Tk);
    const Tensor y = attention(Q, K, V).output;
    const auto keys = any_order(Tk), queries = any_order(Tq);
    RC_ASSERT(distance(attention(Q, reordered(K, keys), reordered(V, keys)).output, y) < 1e-13);
    RC_ASSERT(distance(attention(reordered(Q, queries), K, V).output, reordered(y, queries)) < 1e-13);
  });
}

TEST_CASE("properties: self-attention and MultiHeadAttention are permutation equivariant, gradients too") {
  holds("equivariance", [] {
    const std::int64_t T = between(1, 8);
    Rng rng(std::uint64_t(between(0, 1000)));
    const MultiHeadAttention mha(8, 2, rng, Dtype::float64);
    const Tensor x = normal({2, T, 8}), g = normal({2, T, 8});
    const auto order = any_order(T);
    const Tensor moved = reordered(x, order);
    RC_ASSERT(distance(mha(moved).output, reordered(mha(x).output, order)) < 1e-13);
    const auto [dx] = grad(mha(x).output, {x}, {.cotangent = g});
    const auto [dmoved] = grad(mha(moved).output, {moved}, {.cotangent = reordered(g, order)});
    RC_ASSERT(distance(dmoved, reordered(dx, order)) < 1e-12);
  });
}

TEST_CASE("properties: causality: no gradient from an output to a later input, exactly 0") {
  holds("causality", [] {
    const std::int64_t T = between(2, 20), t = between(0, int(T) - 2);
    const auto [Q, K, V] = any_attention(T, T);
    for (bool keep : {false, true})
      for (bool create_graph : {false, true}) {
        const Tensor y = attention(Q, K, V, {.mask = causal_mask(T), .return_weights = keep}).output;
        const Tensor early = slice(y, 1, 0, t + 1);
        const Tensor g = normal(early.shape());
        const auto [dQ, dK, dV] = grad(early, {Q, K, V}, {.cotangent = g, .create_graph = create_graph});
        for (const Tensor& d : {dQ, dK, dV}) RC_ASSERT(size_of(slice(d, 1, t + 1)) == 0.0);
        RC_ASSERT(size_of(slice(dV, 1, 0, t + 1)) > 0.0);
      }
    Rng rng(1);
    const MultiHeadAttention mha(8, 2, rng, Dtype::float64);
    const Tensor x = normal({1, T, 8});
    const Tensor y = slice(mha(x, {.mask = causal_mask(T)}).output, 1, 0, t + 1);
    const auto [dx] = grad(y, {x}, {.cotangent = normal(y.shape())});
    RC_ASSERT(size_of(slice(dx, 1, t + 1)) == 0.0);
  });
}

TEST_CASE("properties: causality: changing a later input changes no bit of an earlier output") {
  holds("causality in values", [] {
    const std::int64_t T = between(2, 20), t = between(0, int(T) - 2);
    const auto [Q, K, V] = any_attention(T, T);
    const auto changed = [&](const Tensor& x) {
      return concat({slice(x, 1, 0, t + 1), slice(x, 1, t + 1) * 1e3 + 1.0}, 1);
    };
    const AttentionOptions options{.mask = causal_mask(T)};
    const Tensor before = attention(Q, K, V, options).output;
    const Tensor after = attention(changed(Q), changed(K), changed(V), options).output;
    RC_ASSERT(distance(slice(before, 1, 0, t + 1), slice(after, 1, 0, t + 1)) == 0.0);
  });
}

TEST_CASE("properties: an output lies within the values it may see; weights sum to 1, or to 0 where nothing is seen") {
  holds("convexity", [] {
    const std::int64_t Tq = between(1, 8), Tk = between(1, 8);
    const auto [Q, K, V] = any_attention(Tq, Tk);
    const Tensor mask = any_mask(Tq, Tk);
    const auto [output, weights, scores] = attention(Q, K, V, {.mask = mask, .return_weights = true});
    const Tensor alive = (max(mask.to(Dtype::float64), {.axes = {-1}}) > 0.5).to(Dtype::float64);   // [Tq]
    RC_ASSERT(distance(sum(weights, -1), broadcast_to(alive, {Q.shape(0), Tq})) < 1e-14);
    RC_ASSERT(size_of(weights * (1.0 - mask.to(Dtype::float64))) == 0.0);
    const Tensor top = max(V, {.axes = {1}, .keepdims = true}), bottom = min(V, {.axes = {1}, .keepdims = true});
    const Tensor zero = zeros({1}, Dtype::float64);
    RC_ASSERT(max(output - maximum(top, zero)).item() < 1e-14);
    RC_ASSERT(max(minimum(bottom, zero) - output).item() < 1e-14);
  });
}

TEST_CASE("properties: a constant added to all keys changes nothing, so its gradient sums to 0") {
  holds("key shift", [] {
    const auto [Q, K, V] = any_attention(between(1, 8), between(1, 8));
    const Tensor shift = normal({K.shape(2)});
    const Tensor y = attention(Q, K, V).output;
    RC_ASSERT(distance(attention(Q, K + shift, V).output, y) < 1e-12);
    const auto [dK] = grad(y, {K}, {.cotangent = normal(y.shape())});
    RC_ASSERT(size_of(sum(dK, 1)) < 1e-13);
  });
}

TEST_CASE("properties: the fused path answers as the plain path, for any mask, value and gradients, in both dtypes") {
  holds("two paths", [] {
    const std::int64_t Tq = between(1, 40), Tk = between(1, 40);
    const auto drawn = any_attention(Tq, Tk);
    const int kind = between(0, 2);
    const Tensor mask = kind == 0 ? Tensor() : kind == 1 ? any_mask(Tq, Tk) : no_mask(Tq);
    if (kind == 2 && Tq != Tk) return;
    for (Dtype dtype : {Dtype::float64, Dtype::float32}) {
      const double tolerance = dtype == Dtype::float64 ? 1e-12 : 1e-4;
      const Tensor Q = drawn.Q.to(dtype), K = drawn.K.to(dtype), V = drawn.V.to(dtype);
      const Tensor plain = attention(Q, K, V, {.mask = mask, .return_weights = true}).output;
      const Tensor fast = attention(Q, K, V, {.mask = mask}).output;
      RC_ASSERT(distance(plain, fast) < tolerance);
      const Tensor g = normal(plain.shape()).to(dtype);
      const auto a = grad(plain, {Q, K, V}, {.cotangent = g}), b = grad(fast, {Q, K, V}, {.cotangent = g});
      for (std::size_t i = 0; i < 3; ++i) RC_ASSERT(distance(a[i], b[i]) < 10 * tolerance);
    }
  });
}

}  // TEST_SUITE
