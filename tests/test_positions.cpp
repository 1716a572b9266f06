// Positions: learned, as sines and as rotations, each against its formula, from any first place.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "layers/layers.hpp"
#include "tests/layer_tools.hpp"

using namespace surgeon;
using namespace surgeon::tests;

TEST_SUITE("positions") {

TEST_CASE("positions: sines as in the paper, and learned ones that refuse what is too long") {
  const Tensor table = sinusoidal_positions(4, 6, f64);
  for (std::int64_t t = 0; t < 4; ++t)
    for (std::int64_t i = 0; i < 3; ++i) {
      const double angle = double(t) / std::pow(10000.0, double(2 * i) / 6.0);
      CHECK(table.at({t, 2 * i}) == doctest::Approx(std::sin(angle)));
      CHECK(table.at({t, 2 * i + 1}) == doctest::Approx(std::cos(angle)));
    }
  CHECK(sinusoidal_positions(2, 5).shape() == Shape{2, 5});
  Rng rng(1);
  const LearnedPositions learned(3, 2, rng, f64);
  CHECK(off(learned(zeros({4, 2, 2}, f64)), broadcast_to(slice(learned.weight, 0, 0, 2), {4, 2, 2})) == 0.0);
  CHECK_THROWS_WITH_AS(learned(zeros({1, 4, 2}, f64)), doctest::Contains("[1, 4, 2]"), std::invalid_argument);
}

TEST_CASE("rotary: keeps lengths, and the product of two turned vectors depends on their distance only") {
  Rng rng(1);
  const Tensor q = randn({1, 6}, rng, f64), k = randn({1, 6}, rng, f64);
  const Tensor Q = rotary(broadcast_to(q, {9, 6})), K = rotary(broadcast_to(k, {9, 6}));
  CHECK(off(sum(Q * Q, -1), broadcast_to(sum(q * q), {9})) < 1e-13);
  const Tensor products = matmul(Q, K, {.transpose_b = true});
  for (std::int64_t i = 1; i < 9; ++i)
    for (std::int64_t j = 1; j < 9; ++j)
      CHECK(products.at({i, j}) == doctest::Approx(products.at({i - 1, j - 1})));
  CHECK(std::abs(products.at({0, 0}) - products.at({3, 0})) > 1e-6);
  CHECK(off(slice(Q, 0, 0, 1), q) == 0.0);   // place 0 does not turn
  CHECK(Q.at({1, 0}) == doctest::Approx(q.at({0, 0}) * std::cos(1.0) - q.at({0, 3}) * std::sin(1.0)));
  CHECK_THROWS_WITH_AS(rotary(zeros({2, 3})), doctest::Contains("even"), std::invalid_argument);
}

TEST_CASE("positions with a first place are rows of the longer table") {
  CHECK(off(sinusoidal_positions(3, 6, f64, 4), slice(sinusoidal_positions(7, 6, f64), 0, 4)) == 0.0);
  CHECK(off(alibi_bias(3, 2, 7, f64), slice(alibi_bias(3, 7, f64), 1, 5)) == 0.0);
  CHECK(off(alibi_bias(3, 7, 7, f64), alibi_bias(3, 7, f64)) == 0.0);
  CHECK_THROWS_WITH_AS(alibi_bias(3, 8, 7), "alibi_bias: heads = 3, Tq = 8, Tk = 7: needs at least one head and "
                       "0 <= Tq <= Tk", std::invalid_argument);
  Rng rng(1);
  const LearnedPositions learned(7, 2, rng, f64);
  CHECK(off(learned(zeros({2, 3, 2}, f64), 4), broadcast_to(slice(learned.weight, 0, 4, 7), {2, 3, 2})) == 0.0);
  for (const std::int64_t first : {-1, 5})
    CHECK_THROWS_AS(learned(zeros({2, 3, 2}, f64), first), std::invalid_argument);
  CHECK_THROWS_WITH_AS(learned(zeros({2, 3, 2}, f64), 5),
                       "LearnedPositions: positions 5 to 7 are not all within the 7 learned ones",
                       std::invalid_argument);
  const Tensor x = randn({2, 7, 6}, rng, f64);
  CHECK(off(rotary(slice(x, 1, 4), {.first = 4}), slice(rotary(x), 1, 4)) == 0.0);
}

TEST_CASE("rotary: each pair is turned by its position times its frequency, in the width given") {
  Rng rng(1);
  const Tensor x = randn({2, 3, 2, 8}, rng, f64);   // [B, T, heads, d]
  const Tensor places = tensor({5, 0, 2, 9, 1, 1}, {2, 3});
  for (const RotaryPairs pairs : {RotaryPairs::halves, RotaryPairs::interleaved})
    for (const std::int64_t width : {8, 4, 2}) {
      const Tensor y = rotary(x, {.base = 50.0, .positions = places, .pairs = pairs, .width = width,
                                  .axis_of_places = 1});
      double worst = 0.0;
      for (std::int64_t b = 0; b < 2; ++b)
        for (std::int64_t t = 0; t < 3; ++t)
          for (std::int64_t h = 0; h < 2; ++h) {
            for (std::int64_t i = 0; i < width / 2; ++i) {
              const std::int64_t p = pairs == RotaryPairs::halves ? i : 2 * i;
              const std::int64_t q = pairs == RotaryPairs::halves ? i + width / 2 : 2 * i + 1;
              const double angle = places.at({b, t}) * std::pow(50.0, -2.0 * double(i) / double(width));
              const double c = std::cos(angle), s = std::sin(angle), u = x.at({b, t, h, p}), v = x.at({b, t, h, q});
              worst = std::max({worst, std::abs(y.at({b, t, h, p}) - (u * c - v * s)),
                                std::abs(y.at({b, t, h, q}) - (v * c + u * s))});
            }
            for (std::int64_t i = width; i < 8; ++i)
              worst = std::max(worst, std::abs(y.at({b, t, h, i}) - x.at({b, t, h, i})));
          }
      CHECK(worst < 1e-14);
      const auto f = [&](const std::vector<Tensor>& in) {
        return rotary(in[0], {.positions = places, .pairs = pairs, .width = width, .axis_of_places = 1});
      };
      CHECK(gradcheck(f, {x}, {.order = 2}));
    }
}

TEST_CASE("rotary: positions may be one row for all, and a base alone still means what it did") {
  Rng rng(1);
  const Tensor x = randn({2, 3, 4}, rng, f64), places = tensor({4, 5, 6}, {3});
  CHECK(off(rotary(x, {.positions = places}), rotary(x, {.first = 4})) == 0.0);
  CHECK(off(rotary(x, {.positions = stack({places, places}, 0)}), rotary(x, {.first = 4})) == 0.0);
  CHECK(off(rotary(x, 100.0), rotary(x, {.base = 100.0})) == 0.0);
  CHECK(off(rotary(x, 100, 0), rotary(x, {.base = 100.0, .axis_of_places = 0})) == 0.0);
  CHECK(off(rotary(x, {}), rotary(x)) == 0.0);
  CHECK(rotary(zeros({2, 3, 5}), {.width = 4}).shape() == Shape{2, 3, 5});
}

TEST_CASE("rotary refuses bad options in one sentence") {
  const Tensor x = zeros({2, 3, 4});
  const auto refused = [&](const std::string& sentence, const RotaryOptions& options) {
    CHECK_THROWS_WITH_AS(rotary(x, options), sentence.c_str(), std::invalid_argument);
  };
  refused("rotary: x [2, 3, 4]: the width must be even and at most the size of the last axis, not 3", {.width = 3});
  refused("rotary: x [2, 3, 4]: the width must be even and at most the size of the last axis, not 6", {.width = 6});
  refused("rotary: x [2, 3, 4]: the width must be even and at most the size of the last axis, not -2", {.width = -2});
  refused("rotary: base = 0 must be positive", {.base = 0.0});
  refused("rotary: positions int64 [2] must be int64 [3] or [2, 3] for x [2, 3, 4]",
          {.positions = tensor({1, 2}, {2})});
  refused("rotary: positions float32 [3] must be int64 [3] or [2, 3] for x [2, 3, 4]", {.positions = zeros({3})});
  CHECK_THROWS_WITH_AS(rotary(zeros({2, 3, 5})), "rotary: x [2, 3, 5]: the last axis must have an even size",
                       std::invalid_argument);
}

TEST_CASE("MultiHeadAttention: rotary pairs and width reach the heads") {
  Rng rng(1), same(1);
  const MultiHeadConfig config{.rotary_base = 100.0, .rotary_width = 2, .rotary_pairs = RotaryPairs::interleaved};
  const MultiHeadAttention turned(8, 2, config, rng, f64), plain(8, 2, same, f64);
  const Tensor x = randn({1, 3, 8}, rng, f64);
  const auto heads = [&](const Linear& W) {   // [B, heads, T, d_k]
    return rotary(permute(reshape(W(x), {1, 3, 2, 4}), {0, 2, 1, 3}),
                  {.base = 100.0, .pairs = RotaryPairs::interleaved, .width = 2});
  };
  const Tensor V = permute(reshape(plain.W_v(x), {1, 3, 2, 4}), {0, 2, 1, 3});
  const Tensor joined = reshape(permute(attention(heads(plain.W_q), heads(plain.W_k), V).output, {0, 2, 1, 3}),
                                {1, 3, 8});
  CHECK(off(turned(x).output, plain.W_o(joined)) < 1e-13);
}

}
