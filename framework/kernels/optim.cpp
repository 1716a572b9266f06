// The optimizer kernels of this machine's instruction set.
#include "framework/kernels/optim.hpp"

namespace surgeon::kernels {

template <> const Optim<float>& optim<float>() noexcept {
  return choose(baseline::optim_float, v3::optim_float, v4::optim_float);
}
template <> const Optim<double>& optim<double>() noexcept {
  return choose(baseline::optim_double, v3::optim_double, v4::optim_double);
}

}  // namespace surgeon::kernels
