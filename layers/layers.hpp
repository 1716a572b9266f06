// All layers.
#pragma once

#include "layers/attention.hpp"
#include "layers/linear.hpp"
#include "layers/masks.hpp"
#include "layers/multi_head_attention.hpp"
#include "framework/parameters.hpp"
