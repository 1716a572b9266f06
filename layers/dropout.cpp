#include "layers/dropout.hpp"

#include "framework/errors.hpp"

namespace surgeon {

Dropout::Dropout(double p_) : p(p_) { require(p >= 0.0 && p <= 1.0, "Dropout: p = ", p, " must be between 0 and 1"); }

Tensor Dropout::operator()(const Tensor& x, Rng* rng) const { return rng && p > 0.0 ? dropout(x, p, *rng) : x; }

}  // namespace surgeon
