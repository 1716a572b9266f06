// Which table of element-by-element kernels this machine uses.
#include "framework/kernels/elementwise.hpp"

namespace surgeon::kernels {

template <> const Elementwise<float>& elementwise() noexcept {
  return choose(baseline::elementwise_float, v3::elementwise_float, v4::elementwise_float);
}
template <> const Elementwise<double>& elementwise() noexcept {
  return choose(baseline::elementwise_double, v3::elementwise_double, v4::elementwise_double);
}
template <> const Elementwise<std::int64_t>& elementwise() noexcept {
  return choose(baseline::elementwise_int64, v3::elementwise_int64, v4::elementwise_int64);
}

}  // namespace surgeon::kernels
