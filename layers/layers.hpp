// All layers.
#pragma once

#include "framework/parameters.hpp"
#include "layers/attention.hpp"
#include "layers/dropout.hpp"
#include "layers/embedding.hpp"
#include "layers/feed_forward.hpp"
#include "layers/initialise.hpp"
#include "layers/layer_norm.hpp"
#include "layers/linear.hpp"
#include "layers/masks.hpp"
#include "layers/multi_head_attention.hpp"
#include "layers/positions.hpp"
#include "layers/transformer.hpp"
#include "layers/transformer_block.hpp"
