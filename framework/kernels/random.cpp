// The table of random-number kernels for this machine.
#include "framework/kernels/random.hpp"

namespace surgeon::kernels {

const Random& random() noexcept { return choose(baseline::random, v3::random, v4::random); }

}  // namespace surgeon::kernels
