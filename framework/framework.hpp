// The whole framework: tensors, gradients, ops, random numbers, optimizers, files.
#pragma once

#include "framework/autograd.hpp"
#include "framework/checkpoint.hpp"
#include "framework/derivatives.hpp"
#include "framework/graph.hpp"
#include "framework/ops.hpp"
#include "framework/parameters.hpp"
#include "framework/probe.hpp"
#include "framework/random.hpp"
#include "framework/tensor.hpp"
