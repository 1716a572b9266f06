// Does not compile, and the compiler says what to write: 1 is neither on nor a factor.
#include "layers/layers.hpp"

surgeon::AttentionOptions options() { return {.scale = 1}; }
