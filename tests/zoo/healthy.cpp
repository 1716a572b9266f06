// Layers without a fault, as varied as people's own, and the formats in which they are stored.
#include <cmath>
#include <cstdint>

#include "framework/low_precision.hpp"
#include "layers/layers.hpp"
#include "tests/zoo/zoo.hpp"

namespace surgeon::tests {

std::string to_string(Format format) {
  constexpr const char* names[] = {"float32", "float64", "bfloat16", "float16"};
  return names[int(format)];
}

Dtype dtype_of(Format format) { return format == Format::float64 ? Dtype::float64 : Dtype::float32; }

Tensor rounded(const Tensor& x, Format format) {
  if (format == Format::bfloat16) return rounded_to(x, surgeon::Format::bfloat16);
  return format == Format::float16 ? rounded_to(x, surgeon::Format::float16) : x;
}

namespace {

struct Dice {
  Rng rng;
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return std::int64_t(randint(low, high + 1, {1}, rng).item());
  }
  template <class T> T one_of(std::initializer_list<T> all) {
    return all.begin()[between(0, std::int64_t(all.size()) - 1)];
  }
  bool chance(int one_in) { return between(1, one_in) == 1; }
};

// Tokens that repeat, that are all the same, or of which the first draws all queries.
Tensor tokens_of(Tensor x, Dice& dice, double spread) {
  const std::int64_t T = x.shape(2);
  const auto kind = dice.between(0, 5);
  if (kind == 0) x = take(x, randint(0, (T + 1) / 2, {T}, dice.rng), 2);
  if (kind == 1) x = broadcast_to(slice(x, 2, 0, 1), x.shape());
  if (kind == 2 && T > 1) x = concat({full_like(slice(x, 2, 0, 1), 2.0), slice(x, 2, 1)}, 2);
  return (x * spread).detach();
}

// Dense, or of one query alone; of all sizes.
Tensor upstream(const Shape& shape, Dtype dtype, Format format, Dice& dice) {
  const bool half = format == Format::float16;
  const double size = std::pow(10.0, double(half ? dice.between(-6, 1) : dice.between(-12, 6)));
  Tensor dO = randn(shape, dice.rng, dtype) * size;
  const std::int64_t T = shape[2], kind = dice.between(0, 3);
  if (kind > 1) return dO;
  const Tensor place = reshape(arange(T, dtype), {T, 1});
  return (dO * (place == (kind == 0 ? 0.0 : double(T - 1))).to(dtype)).detach();
}

void add_masks(Specimen& s, Dice& dice) {
  const std::int64_t B = s.batch(), Tq = s.Tq(), Tk = s.Tk(), H = s.heads();
  s.causal = dice.chance(2);
  if (dice.chance(4)) s.window = dice.between(1, 9);
  if (dice.chance(3)) s.mask = rand({B, dice.one_of<std::int64_t>({1, H}), Tq, Tk}, dice.rng, Dtype::float32) < 0.7;
  else if (dice.chance(3)) s.mask = reshape(arange(Tk, Dtype::float32) < double(dice.between(1, Tk)), {1, 1, 1, Tk});
  if (dice.chance(4)) s.bias = dice.chance(2) && Tq <= Tk ? alibi_bias(H, Tq, Tk) : randn({1, H, Tq, Tk}, dice.rng);
  if (s.bias.defined()) s.bias = reshape(s.bias.to(s.Q.dtype()), {1, H, Tq, Tk});
}

Tensor repeated(const Tensor& x, std::int64_t heads) {
  const std::int64_t each = heads / x.shape(1);
  return reshape(stack(std::vector<Tensor>(std::size_t(each), x), 2), {x.shape(0), heads, x.shape(2), x.shape(3)});
}

Tensor rows(const Tensor& x) { return sum(x, Over{{-1}, true}); }

// As a framework does in mixed precision: operands and results rounded, sums in float32.
void compute_rounded(Specimen& s, Format format) {
  const auto half = [format](const Tensor& x) { return rounded(x, format); };
  for (Tensor* x : {&s.Q, &s.K, &s.V, &s.dO}) *x = half(*x);
  if (s.bias.defined()) s.bias = half(s.bias);
  const double c = s.scale.factor(s.Q.shape(-1), s.Tk());
  const Tensor K = repeated(s.K, s.heads()), V = repeated(s.V, s.heads()), visible = visible_in(s);
  Tensor scores = half(half(matmul(s.Q, K, {.transpose_b = true})) * c);
  if (s.bias.defined()) scores = half(scores + s.bias);
  s.weights = half(softmax(visible.empty() ? scores : masked_fill(scores, !visible, -INFINITY)));
  s.output = half(matmul(s.weights, V));
  const Tensor dP = half(matmul(s.dO, V, {.transpose_b = true}));
  const Tensor dS = half(s.weights * (dP - rows(s.weights * dP)));
  const auto summed = [&](const Tensor& x) {
    return half(sum(reshape(x, {s.batch(), s.kv_heads(), s.heads() / s.kv_heads(), x.shape(2), x.shape(3)}), 2));
  };
  s.dQ = half(matmul(dS, K) * c);
  s.dK = summed(half(matmul(dS, s.Q, {.transpose_a = true}) * c));
  s.dV = summed(half(matmul(s.weights, s.dO, {.transpose_a = true})));
}

}   // namespace

Specimen correct_layer(std::uint64_t seed, Format format, Scores scores) {
  Dice dice{Rng(seed, 77)};
  const Dtype dtype = dtype_of(format);
  const std::int64_t T = dice.chance(12) ? dice.between(41, 300) : dice.between(1, 40);
  const std::int64_t kv = T > 40 ? 1 : dice.between(1, 3), heads = kv * dice.one_of<std::int64_t>({1, 1, 2, 3});
  const std::int64_t Tk = dice.chance(4) ? dice.between(1, 60) : T, B = T > 40 ? 1 : 2;
  const std::int64_t d = dice.chance(8) ? dice.between(25, 256) : dice.between(1, 24), d_v = dice.between(1, 24);
  const double spread = std::pow(2.0, double(scores == Scores::healthy ? dice.between(-5, 0) : dice.between(1, 3)));
  Specimen s{.Q = tokens_of(randn({B, heads, T, d}, dice.rng, dtype), dice, spread),
             .K = tokens_of(randn({B, kv, Tk, d}, dice.rng, dtype), dice, spread),
             .V = tokens_of(randn({B, kv, Tk, d_v}, dice.rng, dtype), dice, 1)};
  s.dO = upstream({B, heads, T, d_v}, dtype, format, dice);
  add_masks(s, dice);
  if (format == Format::bfloat16 || format == Format::float16) {
    compute_rounded(s, format);
    return s;
  }
  AttentionOptions options = s.options();
  options.return_weights = dice.chance(2);
  const AttentionResult r = attention(s.Q, s.K, s.V, options);
  const auto [dQ, dK, dV] = grad(r.output, {s.Q, s.K, s.V}, {.cotangent = s.dO});
  s.output = r.output.detach();
  if (r.weights.defined()) s.weights = r.weights.detach();
  s.dQ = dQ, s.dK = dK, s.dV = dV;
  return s;
}

}   // namespace surgeon::tests
