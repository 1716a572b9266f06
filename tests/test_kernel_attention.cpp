// Fused attention against loops in double and against plain ops; what masks keep out; the same bits however many
// threads; three instruction sets.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "framework/framework.hpp"
#include "framework/kernels/attention.hpp"
#include "framework/machine.hpp"

using namespace surgeon;

namespace {

const double infinity = std::numeric_limits<double>::infinity();
const double nan_value = std::numeric_limits<double>::quiet_NaN();

// Attention in plain ops, for one head or [B, heads, T, d]: what the kernel must equal.
Tensor plain_attention(const Tensor& Q, const Tensor& K, const Tensor& V, const Tensor& mask, double scale) {
  Tensor scores = matmul(Q, K, {.transpose_b = true}) * scale;
  if (mask.defined()) scores = masked_fill(scores, !mask, -infinity);
  return matmul(softmax(scores, -1), V);
}

Reference plain(double scale) {
  return [scale](std::span<const Tensor> in) {
    return plain_attention(in[0], in[1], in[2], in.size() > 3 ? in[3] : Tensor(), scale);
  };
}

Tensor fused(const Tensor& Q, const Tensor& K, const Tensor& V, const Tensor& mask = {}, double scale = 0.5) {
  return fused_attention(Q, K, V, {.mask = mask, .scale = scale}, plain(scale));
}

struct Sizes {
  std::int64_t batch, heads, Tq, Tk, d_k, d_v;
  std::string text() const {
    return to_string(Shape{batch, heads, Tq, Tk, d_k, d_v});
  }
};

// Below, at and above a block of 64 and the lanes of every instruction set.
const std::vector<Sizes> all_sizes{{2, 3, 10, 10, 8, 8},    {1, 2, 64, 64, 16, 32},   {2, 1, 65, 130, 17, 5},
                                   {1, 1, 200, 70, 64, 64}, {1, 2, 130, 300, 33, 20}, {1, 1, 5, 1, 3, 2},
                                   {3, 1, 1, 40, 1, 1},     {1, 1, 70, 1100, 8, 8}};

struct Draw {
  Tensor Q, K, V, G;
};
Draw draw(const Sizes& s, Dtype dtype) {
  Rng rng(11);
  return {randn({s.batch, s.heads, s.Tq, s.d_k}, rng, dtype), randn({s.batch, s.heads, s.Tk, s.d_k}, rng, dtype),
          randn({s.batch, s.heads, s.Tk, s.d_v}, rng, dtype), randn({s.batch, s.heads, s.Tq, s.d_v}, rng, dtype)};
}

// [B, heads, T, d] -> [B, T, heads * d]
Tensor side_by_side(const Tensor& x) {
  return reshape(permute(x, {0, 2, 1, 3}), {x.shape(0), x.shape(2), x.shape(1) * x.shape(3)});
}

// Some seen and some not, a whole block unseen, every seventh row dead.
Tensor random_mask(std::int64_t batch, std::int64_t heads, std::int64_t Tq, std::int64_t Tk) {
  Rng rng(5);
  std::vector<bool> seen(std::size_t(batch * heads * Tq * Tk));
  for (std::size_t at = 0; at < seen.size(); ++at) {
    const std::int64_t k = std::int64_t(at) % Tk, q = std::int64_t(at) / Tk % Tq;
    seen[at] = rng.below(3) != 0 && q % 7 != 3 && !(q < 64 && k >= 64 && k < 128);
  }
  return tensor(seen, {batch, heads, Tq, Tk});
}

Tensor causal_table(std::int64_t Tq, std::int64_t Tk) { return tril(ones({Tq, Tk}), Tk - Tq) != 0.0; }

double worst(const Tensor& a, const Tensor& b) {
  if (a.size() == 0) return 0.0;
  const Tensor x = a.to(Dtype::float64), y = b.to(Dtype::float64);
  return max(abs(x - y) / (abs(y) + 1.0)).item();
}

// The output, dQ, dK and dV.
using Results = std::array<Tensor, 4>;
Results all_of(const Tensor& y, const Tensor& Q, const Tensor& K, const Tensor& V, const Tensor& G) {
  const auto [dQ, dK, dV] = grad(y, {Q, K, V}, {.cotangent = G});
  return {y, dQ, dK, dV};
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const auto x = a.values<float>(), y = b.values<float>();
  return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size_bytes()) == 0;
}

bool all_finite(const Tensor& x) { return std::isfinite(sum(x * 0.0).item()); }

// Row i of a tensor [1, 1, T, d].
Tensor row(const Tensor& x, std::int64_t i) { return slice(x, 2, i, i + 1); }

// The numbers of `from`, but for one row, which is `value` everywhere.
Tensor with_row(const Tensor& from, std::int64_t i, double value) {
  const Tensor place = reshape(arange(double(from.shape(2)), from.dtype()), {1, 1, from.shape(2), 1});
  return where(place == double(i), full(from.shape(), value, from.dtype()), from);
}

}  // namespace

TEST_SUITE("kernel_attention") {
  TEST_CASE("fused attention is as exact as plain ops up to a factor, whatever the sizes, mask and layout") {
    for (const Sizes& s : all_sizes)
      for (const std::string kind : {"all", "causal", "shared mask", "mask of each head", "padding"})
        for (const Dtype dtype : {Dtype::float32, Dtype::float64}) {
          CAPTURE(s.text());
          CAPTURE(kind);
          CAPTURE(to_string(dtype));
          Tensor mask, table;   // what the op is given, and what it means
          if (kind == "causal") table = causal_table(s.Tq, s.Tk);
          if (kind == "shared mask") table = mask = reshape(random_mask(1, 1, s.Tq, s.Tk), {s.Tq, s.Tk});
          if (kind == "mask of each head") table = mask = random_mask(s.batch, s.heads, s.Tq, s.Tk);
          if (kind == "padding") table = mask = random_mask(s.batch, 1, 1, s.Tk);
          const auto [Q, K, V, G] = draw(s, dtype);
          const double scale = kind == "padding" ? -0.7 : 0.4;
          const Tensor Q64 = Q.to(Dtype::float64), K64 = K.to(Dtype::float64), V64 = V.to(Dtype::float64);
          const Tensor y64 = plain_attention(Q64, K64, V64, table, scale);
          const Results expected = all_of(y64, Q64, K64, V64, G.to(Dtype::float64));
          const Results plain_too = all_of(plain_attention(Q, K, V, table, scale), Q, K, V, G);

          FusedAttentionOptions options{.mask = mask, .causal = kind == "causal", .scale = scale};
          const Results found = all_of(fused_attention(Q, K, V, options, {}), Q, K, V, G);
          const double small = dtype == Dtype::float32 ? 1e-6 : 1e-13;   // float64: plain ops are what it is held to
          for (std::size_t i = 0; i < found.size(); ++i)
            CHECK(worst(found[i], expected[i]) < small + 4 * worst(plain_too[i], expected[i]));

          options.heads = s.heads;
          const Tensor Q3 = side_by_side(Q), K3 = side_by_side(K), V3 = side_by_side(V);
          const Results in_place = all_of(fused_attention(Q3, K3, V3, options, {}), Q3, K3, V3, side_by_side(G));
          for (std::size_t i = 0; i < found.size(); ++i) CHECK(worst(in_place[i], side_by_side(found[i])) == 0.0);
        }
  }

  TEST_CASE("a gradient asked for alone is the one that comes with the others") {
    const Draw x = draw({1, 2, 70, 90, 24, 16}, Dtype::float32);
    const Tensor y = fused(x.Q, x.K, x.V);
    const auto [dQ, dK, dV] = grad(y, {x.Q, x.K, x.V}, {.cotangent = x.G});
    CHECK(same_bits(grad(y, {x.Q}, {.cotangent = x.G})[0], dQ));
    CHECK(same_bits(grad(y, {x.K}, {.cotangent = x.G})[0], dK));
    CHECK(same_bits(grad(y, {x.V}, {.cotangent = x.G})[0], dV));
  }

  TEST_CASE("second derivatives go through the reference") {
    const Draw x = draw({1, 2, 4, 5, 3, 2}, Dtype::float64);
    const Tensor mask = random_mask(1, 2, 4, 5);
    const auto f = [&](const std::vector<Tensor>& in) { return fused(in[0], in[1], in[2], mask); };
    const auto result = gradcheck(f, {x.Q, x.K, x.V}, {.order = 2});
    CHECK_MESSAGE(result.passed, result.message);
  }

  TEST_CASE("the same bits in every run and with any number of threads") {
    for (const Sizes s : {Sizes{1, 1, 600, 600, 32, 32}, Sizes{3, 1, 300, 300, 16, 16}}) {
      const Draw x = draw(s, Dtype::float32);
      const Tensor mask = random_mask(1, 1, s.Tq, s.Tk);
      std::vector<Tensor> first;
      for (const int count : {1, 1, 2, 3}) {
        const ThreadsGuard guard(count);
        const Tensor y = fused(x.Q, x.K, x.V, mask);
        const auto [dQ, dK, dV] = grad(y, {x.Q, x.K, x.V}, {.cotangent = x.G});
        if (first.empty()) first = {y, dQ, dK, dV};
        CHECK(same_bits(y, first[0]));
        CHECK(same_bits(dQ, first[1]));
        CHECK(same_bits(dK, first[2]));
        CHECK(same_bits(dV, first[3]));
      }
    }
  }

  TEST_CASE("the instruction sets agree within rounding") {
    using namespace kernels;
    const Draw x = draw({1, 1, 70, 130, 20, 12}, Dtype::float32);
    const AttentionProblem<float> p{1, 1, 70, 130, 20, 12, 0.3,
                                    {x.Q.values<float>().data(), 0, 0, 20}, {x.K.values<float>().data(), 0, 0, 20},
                                    {x.V.values<float>().data(), 0, 0, 12}};
    const auto run = [&](const AttentionKernels<float>& table) {
      std::vector<float> O(70 * 12), statistics(2 * 70), dQ(70 * 20), dK(130 * 20), dV(130 * 12);
      table.forward(p, {O.data(), 0, 0, 12}, statistics.data(), {0, 0, 0, 2});
      const AttentionGradients<float> g{{O.data(), 0, 0, 12}, {x.G.values<float>().data(), 0, 0, 12}, statistics.data(),
                                        {dQ.data(), 0, 0, 20}, {dK.data(), 0, 0, 20}, {dV.data(), 0, 0, 12}};
      table.backward(p, g, {0, 0, 0, 3}, dQ.data(), 20);
      return Results{tensor(O, {70, 12}), tensor(dQ, {70, 20}), tensor(dK, {130, 20}), tensor(dV, {130, 12})};
    };
    const auto expected = run(baseline::attention_float);
    const auto compare = [&](const Results& found) {
      for (std::size_t i = 0; i < found.size(); ++i) CHECK(worst(found[i], expected[i]) < 1e-5);
    };
#if defined(__x86_64__)
    if (isa() >= Isa::v3) compare(run(v3::attention_float));
    if (isa() >= Isa::v4) compare(run(v4::attention_float));
#else
    compare(expected);
#endif
  }

  TEST_CASE("a row that the mask kills has output 0 and gradients 0, even when it holds nan") {
    for (const std::int64_t T : {10, 100}) {
      Draw x = draw({1, 1, T, T, 8, 8}, Dtype::float32);
      const Tensor place = reshape(arange(double(T)), {T, 1});
      const Tensor mask = broadcast_to(place, {T, T}) != 3.0;
      for (const double poison : {0.5, nan_value}) {
        const Tensor Q = with_row(x.Q, 3, poison), G = with_row(x.G, 3, poison);
        const Tensor y = fused(Q, x.K, x.V, mask);
        const auto [dQ, dK, dV] = grad(y, {Q, x.K, x.V}, {.cotangent = G});
        CHECK(max(abs(row(y, 3))).item() == 0.0);
        CHECK(max(abs(row(dQ, 3))).item() == 0.0);
        CHECK(all_finite(y));
        CHECK(all_finite(dQ));
        CHECK(all_finite(dK));
        CHECK(all_finite(dV));
      }
    }
  }

  TEST_CASE("a nan in a masked key or value reaches nothing") {
    for (const std::int64_t T : {10, 70, 150})
      for (const double poison : {nan_value, infinity})
        for (const std::int64_t key : {T - 1, T / 2}) {
          const Draw x = draw({1, 1, T, T, 8, 8}, Dtype::float32);
          const Tensor K = with_row(x.K, key, poison), V = with_row(x.V, key, poison);
          const Tensor causal = causal_table(T, T);
          const Tensor y = fused(x.Q, K, V, causal), clean = fused(x.Q, x.K, x.V, causal);
          const Tensor G = where(reshape(arange(double(T)), {1, 1, T, 1}) < double(key), x.G, zeros_like(x.G));
          const auto [dQ] = grad(y, {x.Q}, {.cotangent = G});
          const auto [dQ_clean] = grad(clean, {x.Q}, {.cotangent = G});
          for (std::int64_t i = 0; i < key; ++i) {
            REQUIRE(worst(row(y, i), row(clean, i)) < 1e-6);
            REQUIRE(worst(row(dQ, i), row(dQ_clean, i)) < 1e-6);
          }
          CHECK(std::isnan(y.at({0, 0, key, 0})));   // what may be attended stays visible

          const Tensor unread = broadcast_to(reshape(arange(double(T)), {1, T}), {T, T}) != double(key);
          const Tensor z = fused(x.Q, K, V, unread);
          const auto [zQ, zK, zV] = grad(z, {x.Q, K, V}, {.cotangent = x.G});
          CHECK(all_finite(z));
          CHECK(all_finite(zQ));
          CHECK(all_finite(zK));
          CHECK(all_finite(zV));
        }
  }

  TEST_CASE("a nan in a query reaches its own row and the keys it sees, and no other") {
    const std::int64_t T = 100, query = 40;
    const Draw x = draw({1, 1, T, T, 8, 8}, Dtype::float32);
    const Tensor Q = with_row(x.Q, query, nan_value);
    const Tensor y = fused(Q, x.K, x.V, causal_table(T, T));
    const auto [dQ, dK, dV] = grad(y, {Q, x.K, x.V}, {.cotangent = x.G});
    for (std::int64_t i = 0; i < T; ++i) {
      CAPTURE(i);
      CHECK(all_finite(row(y, i)) == (i != query));
      CHECK(all_finite(row(dQ, i)) == (i != query));
      CHECK(all_finite(row(dK, i)) == (i > query));
      CHECK(all_finite(row(dV, i)) == (i > query));
    }
  }

  TEST_CASE("infinite scores are softmax's: -inf has weight 0, +inf makes its row nan, a row of -inf gives 0") {
    const Tensor K = tensor({1.f, 2.f, 3.f}, {1, 3, 1}), V = tensor({10.f, 20.f, 30.f}, {1, 3, 1});
    const auto scored = [&](std::initializer_list<float> keys) {
      return fused(tensor({1.f}, {1, 1, 1}), tensor(keys, {1, 3, 1}), V, {}, 1.0).item();
    };
    const float inf = float(infinity);
    CHECK(scored({-inf, 1.f, 1.f}) == doctest::Approx(25.0));
    CHECK(scored({-inf, -inf, -inf}) == 0.0);
    CHECK(std::isnan(scored({inf, 1.f, 1.f})));
    CHECK(std::isnan(scored({float(nan_value), 1.f, 1.f})));
  }

  TEST_CASE("weights underflow gradually") {
    const Tensor Q = tensor({1.f}, {1, 1, 1}), K = tensor({0.f, -95.f}, {1, 2, 1}), V = tensor({0.f, 1e38f}, {1, 2, 1});
    CHECK(fused(Q, K, V, {}, 1.0).item() == doctest::Approx(1e38 * std::exp(-95.0)).epsilon(1e-3));
    const Tensor q = tensor({1.0}, {1, 1, 1}), k = tensor({0.0, -735.0}, {1, 2, 1});
    const Tensor v = tensor({0.0, 1e300}, {1, 2, 1});
    CHECK(fused(q, k, v, {}, 1.0).item() == doctest::Approx(1e300 * std::exp(-735.0)).epsilon(1e-3));
  }

  TEST_CASE("a saturated softmax has a score gradient of exactly 0, not of rounding errors") {
    const Draw x = draw({1, 1, 40, 40, 24, 24}, Dtype::float32);
    const Tensor Q = x.Q * 1e4, K = x.K * 1e4;
    const auto [dQ, dK] = grad(fused(Q, K, x.V), {Q, K}, {.cotangent = x.G});
    CHECK(max(abs(dQ)).item() == 0.0);
    CHECK(max(abs(dK)).item() == 0.0);
  }

  TEST_CASE("any finite scale will do") {
    const Draw x = draw({1, 1, 20, 20, 8, 8}, Dtype::float64);
    for (const double scale : {0.0, -1.5, 1e-35, 1e35, -1e-300}) {
      CAPTURE(scale);
      const Tensor expected = plain_attention(x.Q, x.K, x.V, {}, scale);
      const Tensor y = fused(x.Q, x.K, x.V, {}, scale);
      const auto [dQ, dV] = grad(y, {x.Q, x.V}, {.cotangent = x.G});
      const auto [eQ, eV] = grad(expected, {x.Q, x.V}, {.cotangent = x.G});
      CHECK(worst(y, expected) < 1e-12);
      CHECK(worst(dQ, eQ) < 1e-12);
      CHECK(worst(dV, eV) < 1e-12);
    }
  }

  TEST_CASE("nothing in, nothing out") {
    const auto shape_of = [](const Shape& q, const Shape& k, const Shape& v) {
      const Tensor Q = ones(q), K = ones(k), V = ones(v);
      const Tensor y = fused(Q, K, V);
      const auto [dQ, dK, dV] = grad(y, {Q, K, V}, {.cotangent = ones_like(y)});
      CHECK(dQ.shape() == q);
      CHECK(dK.shape() == k);
      CHECK(dV.shape() == v);
      return y.shape();
    };
    CHECK(shape_of({0, 4, 3}, {0, 5, 3}, {0, 5, 2}) == Shape{0, 4, 2});
    CHECK(shape_of({2, 0, 3}, {2, 5, 3}, {2, 5, 2}) == Shape{2, 0, 2});
    CHECK(shape_of({2, 4, 3}, {2, 5, 3}, {2, 5, 0}) == Shape{2, 4, 0});
  }

  TEST_CASE("without queries, keys, batch or width there is nothing to compute, under any mask") {
    for (const std::int64_t many : {5, 20, 70, 200})   // the kernel for few queries and keys, and the one in blocks
      for (const Sizes& s : std::vector<Sizes>{{2, 3, 0, many, 4, 3}, {2, 3, many, 0, 4, 3}, {0, 3, many, 7, 4, 3},
                                               {2, 0, many, 7, 4, 3}, {2, 3, many, 7, 4, 0}, {2, 3, many, 7, 0, 3},
                                               {2, 3, 0, 0, 4, 3}, {2, 3, 0, many, 16, 0}, {2, 3, 0, many, 0, 16}})
        for (const Dtype dtype : {Dtype::float32, Dtype::float64})
          for (const bool causal : {false, true})
            for (const bool masked : {false, true}) {
              CAPTURE(s.text());
              CAPTURE(causal);
              CAPTURE(masked);
              const auto [Q, K, V, G] = draw(s, dtype);
              FusedAttentionOptions options{.causal = causal, .scale = 0.4};
              if (masked) options.mask = ones({s.Tq, s.Tk}, Dtype::boolean);
              const Results found = all_of(fused_attention(Q, K, V, options, {}), Q, K, V, G);
              CHECK(found[0].shape() == Shape{s.batch, s.heads, s.Tq, s.d_v});
              CHECK(found[1].shape() == Q.shape());
              CHECK(found[2].shape() == K.shape());
              CHECK(found[3].shape() == V.shape());
              if (s.Tq == 0 || s.Tk == 0 || s.d_v == 0)
                for (const Tensor& x : found) CHECK(worst(x, zeros_like(x)) == 0.0);
              else if (s.d_k == 0 && !causal)   // every key has the same weight
                CHECK(worst(found[0], broadcast_to(mean(V, Over{{-2}, true}), found[0].shape())) < 1e-6);
            }
  }

  TEST_CASE("with 65,536 keys the results are as exact as plain ops make them") {
    const std::int64_t Tk = 65536;
    for (const double size : {0.3, 3.0}) {   // nearly equal weights; some that stand out
      const Draw x = draw({1, 1, 20, Tk, 4, 4}, Dtype::float32);
      const Tensor Q = x.Q * size, V = x.V + 2.0;
      const Tensor Q64 = Q.to(Dtype::float64), K64 = x.K.to(Dtype::float64), V64 = V.to(Dtype::float64);
      const Results exact = all_of(plain_attention(Q64, K64, V64, {}, 0.5), Q64, K64, V64, x.G.to(Dtype::float64));
      const Results by_ops = all_of(plain_attention(Q, x.K, V, {}, 0.5), Q, x.K, V, x.G);
      const Results found = all_of(fused(Q, x.K, V), Q, x.K, V, x.G);
      const auto off = [](const Tensor& a, const Tensor& b) {   // as a part of the largest
        return max(abs(a.to(Dtype::float64) - b)).item() / max(abs(b)).item();
      };
      for (std::size_t i = 0; i < found.size(); ++i) {
        CAPTURE(i);
        const double factor = i == 1 ? 4 : 2;   // in dQ the mean of V cancels, so that it shows how the output is rounded
        CHECK(off(found[i], exact[i]) < factor * off(by_ops[i], exact[i]));
      }
    }
  }

  TEST_CASE("what does not fit is refused") {
    const Tensor x = ones({2, 4, 6});
    CHECK_THROWS_AS(fused_attention(x, x, x, {.heads = 4}, {}), std::invalid_argument);
    CHECK_THROWS_AS(fused_attention(x, ones({2, 4, 5}), x, {}, {}), std::invalid_argument);
    CHECK_THROWS_AS(fused_attention(x, x, x.to(Dtype::float64), {}, {}), std::invalid_argument);
    CHECK_THROWS_AS(fused_attention(x, x, x, {.mask = ones({3, 4}, Dtype::boolean)}, {}), std::invalid_argument);
    CHECK_THROWS_AS(fused_attention(x, x, x, {.mask = ones({4, 4})}, {}), std::invalid_argument);
  }
}
