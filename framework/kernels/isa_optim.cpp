// Optimizer steps; built once per instruction set. Plain loops: the compiler vectorises them once it knows that the
// arrays do not overlap and which options are on.
#include <cmath>
#include <cstdint>

#include "framework/kernels/optim.hpp"

namespace surgeon::kernels {
namespace {

template <class T>
void sgd(const SgdStep& s, std::int64_t n, const T* __restrict g, T* __restrict b, T* __restrict p) {
  const T rate = T(-s.lr), momentum = T(s.momentum), fresh = T(1 - s.dampening), decay = T(s.weight_decay);
  if (!b) {
    for (std::int64_t i = 0; i < n; ++i) p[i] += rate * (g[i] + decay * p[i]);
  } else if (s.first) {
    for (std::int64_t i = 0; i < n; ++i) {
      b[i] = g[i] + decay * p[i];
      p[i] += rate * (s.nesterov ? b[i] + momentum * b[i] : b[i]);
    }
  } else {
    for (std::int64_t i = 0; i < n; ++i) {
      const T d = g[i] + decay * p[i];
      b[i] = b[i] * momentum + fresh * d;
      p[i] += rate * (s.nesterov ? d + momentum * b[i] : b[i]);
    }
  }
}

// With amsgrad the largest square so far counts; a nan comes through.
template <bool amsgrad, class T>
void adam_run(const AdamStep& s, std::int64_t n, const T* __restrict g, T* __restrict m, T* __restrict v,
              T* __restrict largest, T* __restrict p) {
  const T shrink = T(s.shrink), decay = T(s.weight_decay), beta1 = T(s.beta1), beta2 = T(s.beta2), eps = T(s.eps);
  const T fresh1 = T(1 - s.beta1), fresh2 = T(1 - s.beta2), size = T(-s.step_size), scale = T(1 / s.correction);
  for (std::int64_t i = 0; i < n; ++i) {
    const T before = p[i] * shrink, d = g[i] + decay * before;
    const T mean = m[i] * beta1 + fresh1 * d, square = v[i] * beta2 + fresh2 * d * d;
    m[i] = mean;
    v[i] = square;
    T most = square;
    if constexpr (amsgrad) most = largest[i] = largest[i] >= square ? largest[i] : square;
    const T spread = std::sqrt(most) * scale + eps;
    p[i] = before + (spread == T(0) ? T(0) : size * mean / spread);   // eps 0, and no gradient yet
  }
}

template <class T>
void adam(const AdamStep& s, std::int64_t n, const T* g, T* m, T* v, T* largest, T* p) {
  if (largest) adam_run<true>(s, n, g, m, v, largest, p);
  else adam_run<false>(s, n, g, m, v, largest, p);
}

}  // namespace

namespace SURGEON_ISA {
const Optim<float> optim_float = {sgd<float>, adam<float>};
const Optim<double> optim_double = {sgd<double>, adam<double>};
}

}  // namespace surgeon::kernels
