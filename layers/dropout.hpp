// Dropout as a layer. It drops when it is given random numbers and does nothing otherwise: there is no training flag.
#pragma once

#include "framework/framework.hpp"

namespace surgeon {

struct Dropout {
  explicit Dropout(double p);                                   // std::invalid_argument unless 0 <= p <= 1
  Tensor operator()(const Tensor& x, Rng* rng = nullptr) const;   // x itself when rng is null or p is 0

  double p;
};

}  // namespace surgeon
