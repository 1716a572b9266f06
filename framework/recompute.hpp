// recompute: keep what goes into a part of the computation, not what happens inside; compute it again on the way back.
#pragma once

#include "framework/derivatives.hpp"

namespace surgeon {

// f(inputs), with gradients equal to those of f itself, to any order, for the inputs and for everything else f uses
// (the weights of a layer, say). f runs twice or more and must give the same each time: no random numbers but from an
// Rng that it makes itself. Chen et al. 2016, arXiv 1604.06174.
Tensor recompute(const Function& f, const std::vector<Tensor>& inputs);

}  // namespace surgeon
