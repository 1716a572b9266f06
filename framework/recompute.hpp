// recompute: saves memory by keeping only what goes into a part of the computation, and computing it again on the way
// back.
#pragma once

#include "framework/derivatives.hpp"

namespace surgeon {

// f(inputs), with the same gradients as f itself, to any order, for the inputs and for everything else that f uses (the
// weights of a layer, say). f runs at least twice and must give the same result each time: if it draws random numbers,
// they must come from an Rng that it makes itself. Chen et al. 2016, arXiv 1604.06174.
Tensor recompute(const Function& f, const std::vector<Tensor>& inputs);

}  // namespace surgeon
