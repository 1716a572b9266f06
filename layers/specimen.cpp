#include "layers/specimen.hpp"

#include <initializer_list>
#include <span>
#include <utility>

#include "framework/errors.hpp"
#include "layers/masks.hpp"

namespace surgeon {

namespace {

void check_like(const char* name, const Tensor& x, const Shape& shape, Dtype dtype) {
  if (x.empty()) return;
  require(x.shape() == shape, name, " is ", x.shape(), " but must be ", shape);
  require(x.dtype() == dtype, name, " is ", x.dtype(), " but Q is ", dtype);
}

// [Tq, Tk] of what broadcasts to [B, heads, Tq, Tk].
Tensor plane(const Tensor& x, std::int64_t sequence, std::int64_t head) {
  if (x.rank() < 4) return x;
  return x[x.shape(0) == 1 ? 0 : sequence][x.shape(1) == 1 ? 0 : head];
}

}  // namespace

AttentionOptions Specimen::options() const {
  return {.mask = mask,         .scale = scale,       .causal = causal, .window = window, .bias = bias,
          .soft_cap = soft_cap, .weighting = weighting};
}

void check(const Specimen& s) {
  for (const auto& [name, x] : {std::pair{"Q", &s.Q}, {"K", &s.K}, {"V", &s.V}})
    require(x->defined() && x->rank() == 4, name, x->empty() ? " is missing" : " must have four axes");
  detail::attention_sizes("attention", s.Q, s.K, s.V);
  const Shape map{s.batch(), s.heads(), s.Tq(), s.Tk()}, output{s.batch(), s.heads(), s.Tq(), s.V.shape(3)};
  require(count(map) > 0 && s.Q.shape(3) > 0 && s.V.shape(3) > 0, "Q ", s.Q.shape(), ", K ", s.K.shape(), ", V ",
          s.V.shape(), ": there are no numbers");
  const Dtype dtype = s.Q.dtype();
  for (const auto& [name, x] : {std::pair{"output", &s.output}, {"dO", &s.dO}}) check_like(name, *x, output, dtype);
  for (const auto& [name, x] : {std::pair{"weights", &s.weights}, {"dP", &s.dP}, {"dS", &s.dS}})
    check_like(name, *x, map, dtype);
  check_like("dQ", s.dQ, s.Q.shape(), dtype);
  check_like("dK", s.dK, s.K.shape(), dtype);
  check_like("dV", s.dV, s.V.shape(), dtype);
  if (s.X.defined()) {
    require(s.X.rank() == 3 && s.X.shape(0) == s.batch() && s.X.shape(1) == s.Tq() && s.Tq() == s.Tk(), "X is ",
            s.X.shape(), " but must be [", s.batch(), ", ", s.Tq(), ", d_model], with as many queries as keys");
    require(s.X.dtype() == dtype, "X is ", s.X.dtype(), " but Q is ", dtype);
  }
  for (const auto& [name, x] : {std::pair{"mask", &s.mask}, {"bias", &s.bias}})
    require(x->empty() || ((x->rank() == 2 || x->rank() == 4) && broadcasts_to(x->shape(), map)), name, " ", x->shape(),
            " does not fit scores ", map);
}

namespace {

constexpr Tensor Specimen::*inputs[] = {&Specimen::Q, &Specimen::K, &Specimen::V};
constexpr Tensor Specimen::*kept[] = {&Specimen::output, &Specimen::weights, &Specimen::dO, &Specimen::dP,
                                      &Specimen::dS,     &Specimen::dQ,      &Specimen::dK, &Specimen::dV};
constexpr Tensor Specimen::*maps[] = {&Specimen::mask, &Specimen::bias};
constexpr Tensor Specimen::*by_query[] = {&Specimen::Q,  &Specimen::output, &Specimen::weights, &Specimen::dO,
                                          &Specimen::dP, &Specimen::dS,     &Specimen::dQ};
constexpr Tensor Specimen::*by_key[] = {&Specimen::K, &Specimen::V, &Specimen::dK, &Specimen::dV};

template <class Change>
Specimen changed(Specimen s, const Change& change, std::initializer_list<std::span<Tensor Specimen::*const>> lists) {
  for (const auto& list : lists)
    for (Tensor Specimen::*part : list)
      if ((s.*part).defined()) s.*part = change(s.*part);
  return s;
}

}  // namespace

Specimen one_sequence(const Specimen& s, std::int64_t sequence) {
  const auto part = [&](const Tensor& x) {
    return x.rank() < 4 || x.shape(0) == 1 ? x : slice(x, 0, sequence, sequence + 1);
  };
  Specimen one = changed(s, part, {inputs, kept, maps});
  if (s.X.defined()) one.X = slice(s.X, 0, sequence, sequence + 1);
  return one;
}

Specimen in_float64(const Specimen& s) {
  Specimen wide = changed(s, [](const Tensor& x) { return x.to(Dtype::float64); }, {inputs, kept});
  for (Tensor Specimen::*part : {&Specimen::bias, &Specimen::X})
    if ((wide.*part).defined()) wide.*part = (wide.*part).to(Dtype::float64);
  return wide;
}

Specimen one_head(const Specimen& s, std::int64_t sequence, std::int64_t head) {
  const std::int64_t shared_by = s.heads() / s.kv_heads(), kv = head / shared_by;
  const auto of = [&](std::int64_t h) { return [&, h](const Tensor& x) { return x[sequence][h]; }; };
  Specimen one = changed(s, [&](const Tensor& x) { return plane(x, sequence, head); }, {maps});
  if (s.X.defined()) one.X = s.X[sequence];
  for (Tensor Specimen::*part : {&Specimen::dK, &Specimen::dV})
    if (shared_by > 1) one.*part = Tensor();
  return changed(changed(one, of(head), {by_query}), of(kv), {by_key});
}

AttentionStats statistics(const Specimen& s) {
  AttentionOptions options = s.options();
  options.return_stats = true;
  return attention(s.Q, s.K, s.V, options).stats;
}

Specimen one_group(const Specimen& s, std::int64_t sequence, std::int64_t kv_head) {
  const std::int64_t group = s.heads() / s.kv_heads(), first = kv_head * group;
  const auto stacked = [&](const Tensor& x) {
    const Tensor part = slice(x[x.shape(0) == 1 ? 0 : sequence], 0, first, first + group);
    return reshape(part, {group * x.shape(2), x.shape(3)});
  };
  const auto stacked_map = [&](const Tensor& x) {
    return stacked(broadcast_to(x, {s.batch(), s.heads(), s.Tq(), s.Tk()}));
  };
  Specimen one = s;
  one.mask = visible_in(s);
  one.causal = false, one.window = 0, one.X = Tensor();
  return changed(changed(changed(one, stacked_map, {maps}), stacked, {by_query}),
                 [&](const Tensor& x) { return x[sequence][kv_head]; }, {by_key});
}

Tensor heads_apart(const Tensor& x, std::int64_t heads) {
  return transpose(reshape(x, {x.shape(0), x.shape(1), heads, x.shape(2) / heads}), 1, 2);
}

Tensor visible_in(const Specimen& s) {
  const std::int64_t Tq = s.Q.shape(-2), Tk = s.K.shape(-2);
  Tensor visible;
  if (s.mask.defined()) visible = detail::boolean_mask("mask", s.mask);
  if (!s.causal && s.window == 0) return visible;
  const Tensor places = detail::visible_by_place(s.options(), Tq, Tk, 0, Tq);
  return visible.empty() ? places : both(visible, places);
}

}  // namespace surgeon
