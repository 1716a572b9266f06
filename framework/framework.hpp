// The whole framework: tensors, gradients, ops, random numbers.
#pragma once

#include "framework/autograd.hpp"
#include "framework/derivatives.hpp"
#include "framework/ops.hpp"
#include "framework/random.hpp"
#include "framework/tensor.hpp"
