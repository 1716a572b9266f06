#include "layers/doctor/laws.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace surgeon::detail {

namespace {

using Result = std::optional<Measured>;

Tensor product(const Tensor& a, const Tensor& b) { return matmul(a, b); }
Tensor times_transposed(const Tensor& a, const Tensor& b) { return matmul(a, b, {.transpose_b = true}); }
Tensor transposed_times(const Tensor& a, const Tensor& b) { return matmul(a, b, {.transpose_a = true}); }
Tensor row_sums(const Tensor& x) { return sum(x, Over{{-1}, true}); }   // [n, 1]
Tensor column_sums(const Tensor& x) { return sum(x, Over{{0}, true}); }   // [1, n]

// 8 + 4 sqrt(n), n the longest sum on the way.
double slack(const Head& h) {
  const auto longest = std::max({h.s.Q.shape(0), h.s.K.shape(0), h.s.Q.shape(1), h.s.V.shape(1)});
  return 8 + 4 * std::sqrt(double(longest));
}

// [Tq, 1]: 1 + the sum of absolute products behind each query's largest score.
Tensor spread(const Head& h) {
  return 1.0 + max(times_transposed(abs(h.s.Q), abs(h.s.K)), Over{{-1}, true}) * std::abs(h.factor);
}
double largest_spread(const Head& h) { return max(spread(h)).item(); }

// What stands behind dP, and behind dS: absolute values all along.
Tensor behind_dP(const Head& h) { return times_transposed(abs(h.s.dO), abs(h.s.V)); }
Tensor behind_delta(const Head& h) { return row_sums(abs(h.s.dO) * product(h.P, abs(h.s.V))); }   // [Tq, 1]
Tensor behind_dS(const Head& h) { return h.P * (behind_dP(h) + behind_delta(h)); }

std::string entry(const Tensor& x, std::int64_t place, const char* row, const char* column) {
  const std::int64_t columns = x.shape(1);
  std::string text;
  if (x.shape(0) > 1) text = std::string(row) + " " + std::to_string(place / columns);
  if (columns > 1) text += (text.empty() ? "" : ", ") + std::string(column) + " " + std::to_string(place % columns);
  return text;
}

// The entry where |found - expected| is most times what is allowed. All three have two axes, and broadcast.
Result worst(const Tensor& found, const Tensor& expected, const Tensor& allowed, const char* row, const char* column) {
  const Tensor shape = found + expected + allowed;
  const auto spread_out = [&](const Tensor& x) { return broadcast_to(x, shape.shape()); };
  const Tensor f = spread_out(found), e = spread_out(expected), a = spread_out(allowed);
  Measured worst;
  double most = -1;
  for (std::int64_t i = 0; i < f.size(); ++i) {
    const auto at = std::size_t(i);
    Measured here{f.values<double>()[at], e.values<double>()[at], a.values<double>()[at], {}};
    if (!(here.excess() > most)) continue;
    most = here.excess();
    worst = here;
    worst.place = entry(f, i, row, column);
  }
  return worst;
}

bool has(const Head& h, std::initializer_list<Tensor Specimen::*> parts) {
  return std::all_of(parts.begin(), parts.end(), [&](auto part) { return (h.s.*part).defined(); });
}

// [Tq, 1]: 1 for a query that sees something, else 0.
Tensor alive(const Head& h) {
  if (h.visible.empty()) return ones({h.s.Q.shape(0), 1}, Dtype::float64);
  return max(broadcast_to(h.visible, {h.s.Q.shape(0), h.s.K.shape(0)}).to(Dtype::float64), Over{{-1}, true});
}

Tensor nothing(const Tensor& x) { return zeros_like(x); }

// ---- Weights -------------------------------------------------------------------------------------------------------
Result row_sums_of_weights(const Head& h) {
  if (!has(h, {&Specimen::weights})) return {};
  const Tensor sums = row_sums(h.s.weights);
  return worst(sums, alive(h), full_like(sums, slack(h) * h.u), "query", "");
}

Result no_negative_weight(const Head& h) {
  if (!has(h, {&Specimen::weights})) return {};
  const Tensor bound = maximum(h.s.weights, nothing(h.s.weights));
  return worst(h.s.weights, bound, full_like(bound, h.u), "query", "key");
}

Result masked_weights(const Head& h) {
  if (!has(h, {&Specimen::weights}) || h.visible.empty()) return {};
  const Tensor hidden = masked_fill(h.s.weights, broadcast_to(h.visible, h.s.weights.shape()), 0.0);
  return worst(hidden, nothing(hidden), full_like(hidden, h.u), "query", "key");
}

Result output_is_mean(const Head& h) {
  if (!has(h, {&Specimen::weights, &Specimen::output})) return {};
  return worst(h.s.output, product(h.s.weights, h.s.V), product(abs(h.s.weights), abs(h.s.V)) * slack(h) * h.u, "query",
               "component");
}

// ---- Gradients of scores, when somebody kept them ------------------------------------------------------------------
Result score_rows_cancel(const Head& h) {
  if (!has(h, {&Specimen::dS})) return {};
  const Tensor sums = row_sums(h.s.dS);
  const Tensor behind = h.s.dO.defined() ? row_sums(behind_dS(h)) * spread(h) : row_sums(abs(h.s.dS)) * spread(h);
  return worst(sums, nothing(sums), behind * slack(h) * h.u, "query", "");
}

Result masked_scores(const Head& h) {
  if (!has(h, {&Specimen::dS}) || h.visible.empty()) return {};
  const Tensor hidden = masked_fill(h.s.dS, broadcast_to(h.visible, h.s.dS.shape()), 0.0);
  return worst(hidden, nothing(hidden), full_like(hidden, std::numeric_limits<double>::min()), "query", "key");
}

Result weights_gradient(const Head& h) {
  if (!has(h, {&Specimen::dP, &Specimen::dO})) return {};
  return worst(h.s.dP, times_transposed(h.s.dO, h.s.V), behind_dP(h) * slack(h) * h.u, "query", "key");
}

Result delta(const Head& h) {
  if (!has(h, {&Specimen::weights, &Specimen::output, &Specimen::dO})) return {};
  const Tensor dP = h.s.dP.defined() ? h.s.dP : times_transposed(h.s.dO, h.s.V);
  return worst(row_sums(h.s.dO * h.s.output), row_sums(h.s.weights * dP), behind_delta(h) * slack(h) * h.u, "query",
               "");
}

// ---- Sums that need nothing but gradients --------------------------------------------------------------------------
Result keys_cancel(const Head& h) {
  if (!has(h, {&Specimen::dK, &Specimen::dO}) || h.s.soft_cap > 0) return {};   // tanh's slopes differ within a row
  const Tensor sums = column_sums(h.s.dK);
  const Tensor behind = transposed_times(row_sums(behind_dS(h)) * spread(h), abs(h.s.Q));   // [1, d_k]
  return worst(sums, nothing(sums), behind * (std::abs(h.factor) * slack(h) * h.u), "", "component");
}

Result values_add_up(const Head& h) {
  if (!has(h, {&Specimen::dV, &Specimen::dO})) return {};
  const Tensor live = h.s.dO * alive(h);
  const Tensor behind = column_sums(abs(live) * spread(h)) + column_sums(abs(h.s.dV));
  return worst(column_sums(h.s.dV), column_sums(live), behind * (slack(h) * h.u), "", "component");
}

// Q^T dQ = (K^T dK)^T, both c Q^T dS K.
Result one_gradient(const Head& h) {
  if (!has(h, {&Specimen::dQ, &Specimen::dK, &Specimen::dO})) return {};
  const Tensor behind = product(transposed_times(abs(h.s.Q), behind_dS(h) * spread(h)), abs(h.s.K));
  return worst(transposed_times(h.s.Q, h.s.dQ), transposed_times(h.s.dK, h.s.K),
               behind * (2 * std::abs(h.factor) * slack(h) * h.u), "component", "component");
}

Result values_and_output(const Head& h) {
  if (!has(h, {&Specimen::dV, &Specimen::dO, &Specimen::output})) return {};
  const Tensor left = reshape(sum(h.s.V * h.s.dV), {1, 1}), right = reshape(sum(h.s.output * h.s.dO), {1, 1});
  return worst(left, right, reshape(sum(behind_delta(h)), {1, 1}) * (largest_spread(h) * slack(h) * h.u), "", "");
}

// ---- Each gradient by the chain rule -------------------------------------------------------------------------------
bool chain(const Head& h) { return h.explained && h.s.dO.defined(); }

// The gradient of the products c Q K^T: that of the scores, times the slope of a soft cap.
Tensor dS_of(const Head& h) {
  const Tensor dP = times_transposed(h.s.dO, h.s.V);
  const Tensor dS = h.s.dS.defined() ? h.s.dS : h.P * (dP - row_sums(h.P * dP));
  if (h.s.soft_cap <= 0) return dS;
  const Tensor t = tanh(times_transposed(h.s.Q, h.s.K) * (h.factor / h.s.soft_cap));
  return dS * (1.0 - t * t);
}

Result value_gradient(const Head& h) {
  if (!has(h, {&Specimen::dV}) || !chain(h)) return {};
  const Tensor behind = transposed_times(h.P, abs(h.s.dO) * spread(h));
  return worst(h.s.dV, transposed_times(h.P, h.s.dO), behind * (slack(h) * h.u), "value", "component");
}

Result query_gradient(const Head& h) {
  if (!has(h, {&Specimen::dQ}) || !chain(h)) return {};
  return worst(h.s.dQ, product(dS_of(h), h.s.K) * h.factor,
               product(behind_dS(h) * spread(h), abs(h.s.K)) * (std::abs(h.factor) * slack(h) * h.u), "query",
               "component");
}

Result key_gradient(const Head& h) {
  if (!has(h, {&Specimen::dK}) || !chain(h)) return {};
  return worst(h.s.dK, transposed_times(dS_of(h), h.s.Q) * h.factor,
               transposed_times(behind_dS(h) * spread(h), abs(h.s.Q)) * (std::abs(h.factor) * slack(h) * h.u), "key",
               "component");
}

int bits_used(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x) & ((std::uint64_t{1} << 52) - 1);
  return 53 - std::min(std::countr_zero(bits | std::uint64_t{1} << 52), 52);
}

}  // namespace

double Measured::excess() const {
  const double apart = std::abs(found - expected);
  if (apart == 0) return 0;
  return std::isnan(apart) || allowed == 0 ? std::numeric_limits<double>::infinity() : apart / allowed;
}

double unit_of(const Tensor& x) {
  const Tensor wide = x.to(Dtype::float64);
  int most = 0;
  for (double v : wide.values<double>())
    if (std::isfinite(v)) most = std::max(most, bits_used(v));
  if (most <= 4) return 0;
  return std::ldexp(1.0, most <= 8 ? -8 : most <= 11 ? -11 : most <= 24 ? -24 : -53);
}

double underflow_of(const Head& h) {
  const double smallest = h.u < 1e-12 ? 0x1p-1022 : h.u > 4e-4 && h.u < 6e-4 ? 0x1p-24 : 0x1p-126;
  const auto factor = [](const Tensor& x) { return x.empty() ? 1.0 : 1.0 + max(abs(x)).item(); };
  return smallest * slack(h) * factor(h.s.dO) * factor(h.s.V) * factor(h.s.Q) * factor(h.s.K);
}

const std::vector<Law>& laws() {
  static const std::vector<Law> all = {
      {"row sums", "each row of weights sums to 1, or to 0 where the mask hides every key", "weights",
       "softmax must run over the keys, after the mask; nothing may be multiplied in afterwards", row_sums_of_weights},
      {"no negative weight", "no weight is below 0", "weights", "weights must come from softmax", no_negative_weight},
      {"masked weights", "a weight is 0 where the mask hides the key", "weights and a mask or --causal",
       "set masked scores to -inf before softmax", masked_weights},
      {"output", "the output is the weighted mean of the values: O = P V", "weights, output",
       "multiply the weights by V; dropout must be off in evaluation", output_is_mean},
      {"rows of dS cancel",
       "the gradient of each row of scores sums to 0, since softmax ignores what is added to a row", "dS",
       "dS = P (dP - rowsum(P dP)): the row's mean must be subtracted", score_rows_cancel},
      {"masked dS", "the gradient of a score is exactly 0 where the mask hides the key", "dS and a mask or --causal",
       "apply the mask in the backward pass too", masked_scores},
      {"dP", "the gradient of the weights is dO V^T", "dP, dO", "check how the output was multiplied with its gradient",
       weights_gradient},
      {"delta", "rowsum(dO O) = rowsum(P dP)", "weights, output, dO",
       "output, weights and dO must be of one forward pass", delta},
      {"dK cancels", "the gradients of all keys sum to 0 (a key bias has no gradient)", "dK, dO",
       "dS = P (dP - rowsum(P dP)): the row's mean must be subtracted; no part of the keys may be skipped",
       keys_cancel},
      {"dV adds up", "the gradients of all values sum to those of all outputs, since rows of weights sum to 1",
       "dV, dO", "dV = P^T dO with the normalised weights, over all queries", values_add_up},
      {"one gradient", "Q^T dQ = (K^T dK)^T: queries and keys share one gradient", "dQ, dK, dO",
       "dQ = c dS K and dK = c dS^T Q with the same factor c and the same dS", one_gradient},
      {"V dV = O dO", "sum V dV = sum O dO", "dV, dO, output", "dV = P^T dO with the weights of the forward pass",
       values_and_output},
      {"dV", "dV = P^T dO", "dV, dO, and weights or an output that the formula explains",
       "multiply the transposed weights by dO", value_gradient},
      {"dQ", "dQ = c dS K", "dQ, dO, and weights or an output that the formula explains",
       "multiply dS by K and by the scale c", query_gradient},
      {"dK", "dK = c dS^T Q", "dK, dO, and weights or an output that the formula explains",
       "multiply the transposed dS by Q and by the scale c", key_gradient}};
  return all;
}

}  // namespace surgeon::detail
