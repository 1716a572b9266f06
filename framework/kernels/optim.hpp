// One optimizer step over a run of numbers of one parameter. The formulas and their order are in framework/optim.hpp.
#pragma once

#include <cstdint>

#include "framework/kernels/dispatch.hpp"

namespace surgeon::kernels {

struct SgdStep {
  double lr = 0.0, momentum = 0.0, dampening = 0.0, weight_decay = 0.0;
  bool nesterov = false;
  bool first = false;          // the momentum buffer holds nothing yet
};

struct AdamStep {
  double shrink = 1.0;         // of the parameter, before: 1 - lr weight_decay when decoupled, else 1
  double weight_decay = 0.0;   // into the gradient; 0 when decoupled
  double beta1 = 0.0, beta2 = 0.0, eps = 0.0;
  double step_size = 0.0;      // lr / (1 - beta1^t)
  double correction = 1.0;     // sqrt(1 - beta2^t)
};

// g: the gradient; p: the parameter; buffer: null without momentum; largest: null but for amsgrad. None may overlap.
template <class T>
struct Optim {
  void (*sgd)(const SgdStep& s, std::int64_t n, const T* g, T* buffer, T* p);
  void (*adam)(const AdamStep& s, std::int64_t n, const T* g, T* m, T* v, T* largest, T* p);
};

template <class T> const Optim<T>& optim() noexcept;   // T: float, double

namespace baseline {
extern const Optim<float> optim_float;
extern const Optim<double> optim_double;
}
namespace v3 {
extern const Optim<float> optim_float;
extern const Optim<double> optim_double;
}
namespace v4 {
extern const Optim<float> optim_float;
extern const Optim<double> optim_double;
}

}  // namespace surgeon::kernels
