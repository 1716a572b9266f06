// layer_norm and rms_norm: a kernel for value and first derivative, plain ops for higher ones.
#include <algorithm>

#include "framework/kernels/pool.hpp"
#include "framework/ops.hpp"
#include "framework/ops/common.hpp"

namespace surgeon {

using namespace ops;
using kernels::Rows;

namespace {

void require_normalisable(const char* op, const Tensor& x, double eps) {
  require_floating(op, x);
  require(x.rank() > 0, op, ": x needs at least one axis");
  require(columns(x) > 0, op, ": the last axis of ", x.shape(), " has size 0");
  require(eps > 0, op, ": eps must be positive, not ", eps);
}
void require_per_column(const char* op, const Tensor& x, const char* name, const Tensor& weight) {
  require_same_dtype(op, x, name, weight);
  require(weight.shape() == Shape{columns(x)}, op, ": for x of shape ", x.shape(), ", ", name, " must have shape ",
          Shape{columns(x)}, ", not ", weight.shape());
}

// Gradients of x and of one or two weights per column. The weights' are summed over stacks of rows, and the stacks then
// added up, so that the result is the same for any number of threads.
template <class Kernel>
Grads normalise_back(const Ins& in, Grad g, const Kernel& kernel) {
  const Tensor& x = in[0];
  constexpr Size height = 64;
  const Size n = columns(x), rows = rows_of(x), stacks = (rows + height - 1) / height;
  Tensor dx = in.wanted(0) ? make(x.shape(), x.dtype()) : Tensor();
  Grads grads = {dx};
  detail::visit_floating(x.dtype(), [&]<class T>(T) {
    const bool weights = in.wanted(1) || (in.size() > 2 && in.wanted(2));
    const Size weight_inputs = weights ? Size(in.size()) - 1 : 0;
    kernels::Scratch<T> part(weight_inputs * stacks * n);   // [gamma or beta, stacks, n]
    std::fill_n(part.data(), weight_inputs * stacks * n, T(0));
    kernels::parallel_for(stacks, exp_grain / (height * n) + 1, [&](Size begin, Size end) {
      for (Size stack = begin; stack < end; ++stack) {
        const Size at = stack * height * n;
        kernel(kernels::rows<T>(), data<T>(x) + at, data<T>(g) + at, std::min(height, rows - stack * height),
               dx.empty() ? nullptr : fresh<T>(dx) + at, weights ? part.data() + stack * n : nullptr,
               weight_inputs > 1 ? part.data() + (stacks + stack) * n : nullptr);
      }
    });
    for (std::size_t i = 1; i < in.size(); ++i) {
      grads.push_back(in.wanted(i) ? make({n}, x.dtype()) : Tensor());
      if (in.wanted(i)) kernels::sum_columns(part.data() + Size(i - 1) * stacks * n, 1, stacks, n, fresh<T>(grads[i]));
    }
  });
  return grads;
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps) {
  require_normalisable("layer_norm", x, eps);
  require_per_column("layer_norm", x, "gamma", gamma);
  require_per_column("layer_norm", x, "beta", beta);
  Tensor y = make(x.shape(), x.dtype());
  const Size n = columns(x);
  over_rows(x, [&]<class T>(const kernels::Rows<T>& kernel, T, Size row, Size rows) {
    kernel.layer_norm(data<T>(x) + row * n, data<T>(gamma), data<T>(beta), eps, rows, n, fresh<T>(y) + row * n);
  });
  const auto rule = [eps](const Ins& in, Out, Grad g) -> Grads {
    return normalise_back(in, g, [&]<class T>(const Rows<T>& kernel, const T* x, const T* g, Size rows, T* dx,
                                              T* dgamma, T* dbeta) {
      kernel.layer_norm_back(x, data<T>(in[1]), g, eps, rows, columns(in[0]), dx, dgamma, dbeta);
    });
  };
  return fused("layer_norm", {x, gamma, beta}, std::move(y), rule, [eps](Tensors in) {
    const Tensor centred = in[0] - mean(in[0], Over{{-1}, true});
    return centred / sqrt(mean(centred * centred, Over{{-1}, true}) + eps) * in[1] + in[2];
  });
}

Tensor rms_norm(const Tensor& x, const Tensor& gamma, double eps) {
  require_normalisable("rms_norm", x, eps);
  require_per_column("rms_norm", x, "gamma", gamma);
  Tensor y = make(x.shape(), x.dtype());
  const Size n = columns(x);
  over_rows(x, [&]<class T>(const kernels::Rows<T>& kernel, T, Size row, Size rows) {
    kernel.rms_norm(data<T>(x) + row * n, data<T>(gamma), eps, rows, n, fresh<T>(y) + row * n);
  });
  const auto rule = [eps](const Ins& in, Out, Grad g) -> Grads {
    return normalise_back(in, g, [&]<class T>(const Rows<T>& kernel, const T* x, const T* g, Size rows, T* dx,
                                              T* dgamma, T*) {
      kernel.rms_norm_back(x, data<T>(in[1]), g, eps, rows, columns(in[0]), dx, dgamma);
    });
  };
  return fused("rms_norm", {x, gamma}, std::move(y), rule, [eps](Tensors in) {
    return in[0] / sqrt(mean(in[0] * in[0], Over{{-1}, true}) + eps) * in[1];
  });
}

}  // namespace surgeon
