#include "layers/doctor/laws.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace surgeon::detail {

namespace {

using Result = std::optional<Measured>;

constexpr const char* query = "query";

// Where in a tensor with two axes: the row, which may be a query, and the column.
void set_place(Measured& m, const Tensor& x, std::int64_t place, const char* row, const char* column) {
  const std::int64_t columns = x.shape(1);
  if (row == query) m.query = place / columns;
  else if (x.shape(0) > 1) m.place = std::string(row) + " " + std::to_string(place / columns);
  if (columns > 1)
    m.place += (m.place.empty() ? "" : ", ") + std::string(column) + " " + std::to_string(place % columns);
}

// The entry where |found - expected| is most times what is allowed. All three have two axes, and broadcast.
Result worst(const Tensor& found, const Tensor& expected, const Tensor& allowed, const char* row, const char* column) {
  const Tensor shape = found + expected + allowed;
  const auto spread_out = [&](const Tensor& x) { return broadcast_to(x, shape.shape()); };
  const Tensor f = spread_out(found), e = spread_out(expected), a = spread_out(allowed);
  const auto fs = f.values<double>(), es = e.values<double>(), as = a.values<double>();
  Measured worst;
  double most = -1;
  std::size_t at = 0;
  for (std::size_t i = 0; i < fs.size(); ++i) {
    const double excess = Measured{fs[i], es[i], as[i]}.excess();
    if (excess > most) most = excess, at = i;
  }
  worst = {fs[at], es[at], as[at]};
  set_place(worst, f, std::int64_t(at), row, column);
  return worst;
}

bool has(const Head& h, std::initializer_list<Tensor Specimen::*> parts) {
  return std::all_of(parts.begin(), parts.end(), [&](auto part) { return (h.s.*part).defined(); });
}

bool is_softmax(const Head& h) { return h.s.weighting == Weighting::softmax; }

// [Tq, 1]: 1 for a query that sees something, else 0.
Tensor alive(const Head& h) {
  if (h.s.mask.empty()) return ones({h.s.Q.shape(0), 1}, Dtype::float64);
  return max(h.s.mask.to(Dtype::float64), Over{{-1}, true});
}

Tensor nothing(const Tensor& x) { return zeros_like(x); }
Tensor one_number(const Tensor& x) { return reshape(sum(x), {1, 1}); }

// ---- Weights -------------------------------------------------------------------------------------------------------
Result row_sums_of_weights(const Head& h, const Reach&) {
  if (!has(h, {&Specimen::weights}) || !is_softmax(h)) return {};
  return worst(row_sums(h.s.weights), alive(h), row_reach_of_P(h), query, "");
}

Result no_negative_weight(const Head& h, const Reach&) {
  if (!has(h, {&Specimen::weights})) return {};
  const Tensor bound = maximum(h.s.weights, nothing(h.s.weights));
  return worst(h.s.weights, bound, full_like(bound, h.format.smallest), query, "key");
}

Result masked_weights(const Head& h, const Reach&) {
  if (!has(h, {&Specimen::weights}) || h.s.mask.empty()) return {};
  const Tensor hidden = masked_fill(h.s.weights, h.s.mask, 0.0);
  return worst(hidden, nothing(hidden), full_like(hidden, std::numeric_limits<double>::min()), query, "key");
}

Result output_is_mean(const Head& h, const Reach& r) {
  if (!has(h, {&Specimen::weights, &Specimen::output})) return {};
  return worst(h.s.output, matmul(h.s.weights, h.s.V), r.O, query, "component");
}

// ---- Gradients of scores, when somebody kept them ------------------------------------------------------------------
Result score_rows_cancel(const Head& h, const Reach&) {
  if (!has(h, {&Specimen::dS, &Specimen::dO}) || !is_softmax(h)) return {};
  const Tensor sums = row_sums(h.s.dS);
  return worst(sums, nothing(sums), row_reach_of_dS(h), query, "");
}

Result masked_scores(const Head& h, const Reach&) {
  if (!has(h, {&Specimen::dS}) || h.s.mask.empty()) return {};
  const Tensor hidden = masked_fill(h.s.dS, h.s.mask, 0.0);
  return worst(hidden, nothing(hidden), full_like(hidden, std::numeric_limits<double>::min()), query, "key");
}

Result weights_gradient(const Head& h, const Reach& r) {
  if (!has(h, {&Specimen::dP, &Specimen::dO})) return {};
  return worst(h.s.dP, times_transposed(h.s.dO, h.s.V), r.dP, query, "key");
}

Result delta(const Head& h, const Reach& r) {
  if (!has(h, {&Specimen::weights, &Specimen::output, &Specimen::dO})) return {};
  const Tensor dP = times_transposed(h.s.dO, h.s.V);
  return worst(row_sums(h.s.dO * h.s.output), row_sums(h.s.weights * dP), row_sums(abs(h.s.dO) * r.O), query, "");
}

// ---- Sums that need nothing but gradients --------------------------------------------------------------------------
Result keys_cancel(const Head& h, const Reach&) {
  if (!has(h, {&Specimen::dK, &Specimen::dO}) || !is_softmax(h)) return {};
  if (h.s.soft_cap > 0) return {};   // tanh's slopes differ within a row
  const Tensor sums = column_sums(h.s.dK), dS = abs(chain_of(h).dS);
  const double tiny = 2 * h.format.smallest * double(h.group);
  const Tensor stored = column_sums(transposed_times(dS, abs(h.s.Q))) * (std::abs(h.factor) * h.step());
  const Tensor rows = transposed_times(row_reach_of_dS(h), abs(h.s.Q)) * std::abs(h.factor);   // [1, d_k]
  return worst(sums, nothing(sums), rows + stored + (double(h.s.K.shape(0)) + sum(dS).item()) * tiny, "", "component");
}

Result values_add_up(const Head& h, const Reach&) {
  if (!has(h, {&Specimen::dV, &Specimen::dO}) || !is_softmax(h)) return {};
  const double lost = 2 * double(h.group * h.s.K.shape(0)) * h.format.smallest;
  const Tensor behind = column_sums(abs(h.s.dO) * (row_reach_of_P(h) + h.step()));
  return worst(column_sums(h.s.dV), column_sums(h.s.dO * alive(h)), behind + lost, "", "component");
}

// Q^T dQ = (K^T dK)^T, both c Q^T dS K, whatever dS is: its errors are on both sides.
Result one_gradient(const Head& h, const Reach&) {
  if (!has(h, {&Specimen::dQ, &Specimen::dK, &Specimen::dO})) return {};
  const Tensor dS = reach_of(h, Errors::shared).dS + abs(chain_of(h).dS) * (2 * h.step());
  const double tiny = 2 * h.format.smallest * double(h.group);
  const Tensor lost_dQ = transpose(column_sums(abs(h.s.Q)), 0, 1) * tiny;   // [d_k, 1]
  const Tensor lost_dK = matmul(row_sums(transpose(dS, 0, 1)) + 1.0, ones({1, 1}, Dtype::float64)) * tiny;   // [Tk, 1]
  const Tensor allowed = matmul(transposed_times(abs(h.s.Q), dS), abs(h.s.K)) * (2 * std::abs(h.factor)) + lost_dQ +
                         transposed_times(lost_dK, abs(h.s.K));
  return worst(transposed_times(h.s.Q, h.s.dQ), transposed_times(h.s.dK, h.s.K), allowed, "component", "component");
}

Result values_and_output(const Head& h, const Reach& r) {
  if (!has(h, {&Specimen::dV, &Specimen::dO, &Specimen::output})) return {};
  return worst(one_number(h.s.V * h.s.dV), one_number(h.s.output * h.s.dO),
               one_number(abs(h.s.V) * r.dV) + one_number(abs(h.s.dO) * r.O), "", "");
}

// ---- Each gradient by the chain rule -------------------------------------------------------------------------------
bool chain(const Head& h, Tensor Specimen::*part) { return (h.s.*part).defined() && h.explained && h.s.dO.defined(); }

Result value_gradient(const Head& h, const Reach& r) {
  if (!chain(h, &Specimen::dV)) return {};
  return worst(h.s.dV, transposed_times(h.P, h.s.dO), r.dV, "value", "component");
}

Result query_gradient(const Head& h, const Reach& r) {
  if (!chain(h, &Specimen::dQ)) return {};
  return worst(h.s.dQ, matmul(chain_of(h).dS, h.s.K) * h.factor, r.dQ, query, "component");
}

Result key_gradient(const Head& h, const Reach& r) {
  if (!chain(h, &Specimen::dK)) return {};
  return worst(h.s.dK, transposed_times(chain_of(h).dS, h.s.Q) * h.factor, r.dK, "key", "component");
}

}   // namespace

double Measured::excess() const {
  const double apart = std::abs(found - expected);
  if (apart == 0) return 0;
  return std::isnan(apart) || allowed == 0 ? std::numeric_limits<double>::infinity() : apart / allowed;
}

const std::vector<Law>& laws() {
  static const std::vector<Law> all = {
      {"row sums", "each row of weights sums to 1, or to 0 where the mask hides every key", "sum_j P_ij = 1", "weights",
       "softmax must run over the keys, after the mask; nothing may be multiplied in afterwards", row_sums_of_weights},
      {"no negative weight", "no weight is below 0", "P_ij >= 0", "weights", "weights must come from softmax",
       no_negative_weight},
      {"masked weights", "a weight is 0 where the mask hides the key", "P_ij = 0", "weights and a mask or --causal",
       "set masked scores to -inf before softmax", masked_weights},
      {"output", "the output is the weighted mean of the values: O = P V", "O = P V", "weights, output",
       "multiply the weights by V; dropout must be off in evaluation", output_is_mean},
      {"rows of dS cancel",
       "the gradient of each row of scores sums to 0, since softmax ignores what is added to a row", "sum_j dS_ij = 0",
       "dS, dO", "dS = P (dP - rowsum(P dP)): the row's mean must be subtracted", score_rows_cancel},
      {"masked dS", "the gradient of a score is exactly 0 where the mask hides the key", "dS_ij = 0",
       "dS and a mask or --causal", "apply the mask in the backward pass too", masked_scores},
      {"dP", "the gradient of the weights is dO V^T", "dP = dO V^T", "dP, dO",
       "check how the output was multiplied with its gradient", weights_gradient},
      {"delta", "rowsum(dO O) = rowsum(P dP)", "sum_k dO_ik O_ik = sum_j P_ij dP_ij", "weights, output, dO",
       "output, weights and dO must be of one forward pass", delta},
      {"dK cancels", "the gradients of all keys sum to 0 (a key bias has no gradient)", "sum_j dK_j = 0", "dK, dO",
       "dS = P (dP - rowsum(P dP)): the row's mean must be subtracted; no part of the keys may be skipped",
       keys_cancel},
      {"dV adds up", "the gradients of all values sum to those of all outputs, since rows of weights sum to 1",
       "sum_j dV_j = sum_i dO_i", "dV, dO", "dV = P^T dO with the normalised weights, over all queries", values_add_up},
      {"one gradient", "Q^T dQ = (K^T dK)^T: queries and keys share one gradient", "Q^T dQ = (K^T dK)^T", "dQ, dK, dO",
       "dQ = c dS K and dK = c dS^T Q with the same factor c and the same dS", one_gradient},
      {"V dV = O dO", "sum V dV = sum O dO", "sum V dV = sum O dO", "dV, dO, output",
       "dV = P^T dO with the weights of the forward pass", values_and_output},
      {"dV", "dV = P^T dO", "dV = P^T dO", "dV, dO, and weights or an output that the formula explains",
       "multiply the transposed weights by dO", value_gradient},
      {"dQ", "dQ = c dS K", "dQ = c dS K", "dQ, dO, and weights or an output that the formula explains",
       "multiply dS by K and by the scale c", query_gradient},
      {"dK", "dK = c dS^T Q", "dK = c dS^T Q", "dK, dO, and weights or an output that the formula explains",
       "multiply the transposed dS by Q and by the scale c", key_gradient}};
  return all;
}

}   // namespace surgeon::detail
