// The whole framework: tensors, gradients, ops, random numbers, optimizers. Files are in serialize.hpp, apart: its
// <filesystem> would add half to what everybody waits for the compiler.
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
