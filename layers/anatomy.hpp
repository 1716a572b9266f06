// Where the gradient goes on its way back through attention: each factor of the chain rule, in decades, in a ledger that
// sums to the logarithm of what arrives.
//
//   dP = dO V^T    dS = J dP, J = diag(p) - p p^T for each query    dQ = c dS K    dK = c dS^T Q    dV = P^T dO
//
//   for (const Factor& f : anatomy(one_head(specimen, 0, 3)).queries.factors) ... f.name, f.whole ...
#pragma once

#include <string>
#include <vector>

#include "layers/specimen.hpp"

namespace surgeon {

// log10 of the ratio of two norms, before and after one step of the chain rule; the first factor is a norm itself. 0
// where nothing was left to lose. `rows` has one for each query, key or value, `whole` is that of all of them together.
struct Factor {
  std::string name;
  std::vector<double> rows;
  double whole;
};

// For each row, and for all together, the factors sum to `total`, log10 of the gradient's norm; -inf where it is 0.
//   queries  upstream |dO_i|, value contrast |C dP_i|, Jacobian |dS_i|, soft cap, scale c, keys |dS_i K|
//   keys     upstream |dO|, value contrast |C dP|, Jacobian onto this key |dS_.j|, soft cap, scale c, queries |dS^T Q|
//   values   upstream |dO|, weights |P_.j|, agreement |P^T dO| (less than 1 where upstream gradients cancel)
// C takes the mean over the visible keys away, which J does not see. With an input X, queries, keys and values have a
// last factor, the same for each row: from |dQ| to |dW_q| = |X^T dQ|, and so on.
struct Ledger {
  std::vector<Factor> factors;
  std::vector<double> total;
  double whole = 0;
};

// Why a query gets little or no gradient in float32, in this order.
//   underflow     the true |dS_i| is not 0, but below the smallest normal number, 2^-126
//   cancellation  float32 misses more than half of the true dS_i: 1 - p has no digits left
//   saturation    ||J|| < 1e-3, in float64 too
// A query that sees one key or none has nothing to choose: no_choice.
enum class Death { alive, no_choice, saturation, cancellation, underflow };
const char* name_of(Death death);

struct Anatomy {
  Ledger queries, keys, values;
  std::vector<Death> deaths;   // of each query
};

// Of one head (one_head), in float64, with [Tq, Tk] numbers at once. std::invalid_argument without dO.
Anatomy anatomy(const Specimen& head);

}  // namespace surgeon
