// The framework in one include: tensors, gradients, ops, random numbers, optimizers. Apart, because few files need them
// and all others would wait for the compiler: serialize.hpp and checkpoints.hpp (files), diagnostics.hpp, linalg.hpp,
// low_precision.hpp, machine.hpp, errors.hpp (for who writes ops or layers), and xtensor.hpp (which needs xtensor).
#pragma once

#include "framework/anomaly.hpp"
#include "framework/autograd.hpp"
#include "framework/averaging.hpp"
#include "framework/batches.hpp"
#include "framework/derivatives.hpp"
#include "framework/graph.hpp"
#include "framework/ops.hpp"
#include "framework/lr_finder.hpp"
#include "framework/optim.hpp"
#include "framework/parameters.hpp"
#include "framework/print.hpp"
#include "framework/probe.hpp"
#include "framework/random.hpp"
#include "framework/recompute.hpp"
#include "framework/tensor.hpp"
