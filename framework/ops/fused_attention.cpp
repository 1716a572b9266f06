// Shapes, masks and the gradient rule of fused attention; the work is in kernels/attention.hpp.
#include <optional>

#include "framework/autograd.hpp"
#include "framework/detail/node.hpp"
#include "framework/errors.hpp"
#include "framework/kernels/attention.hpp"
#include "framework/ops.hpp"

namespace surgeon {

using detail::data;
using detail::fresh;
using detail::make;
using detail::visit_floating;

namespace {

using kernels::HeadsView;
using kernels::Visibility;

// How the heads lie in the inputs: [B, T, heads * d], or [B, heads, T, d].
struct Layout {
  std::int64_t batch, heads, Tq, Tk, d_k, d_v;
  bool side_by_side;

  template <class T>
  HeadsView<T> view(T* data, std::int64_t rows, std::int64_t d) const {
    if (side_by_side) return {data, rows * heads * d, d, heads * d};
    return {data, heads * rows * d, rows * d, d};
  }
};

Layout layout_of(const Tensor& Q, const Tensor& K, const Tensor& V, std::int64_t heads) {
  for (const Tensor* x : {&Q, &K, &V}) require_value("fused_attention", *x);
  const int rank = Q.rank();
  const Shape &q = Q.shape(), &k = K.shape(), &v = V.shape();
  require((rank == 3 || rank == 4) && K.rank() == rank && V.rank() == rank && is_floating(Q.dtype()) &&
              K.dtype() == Q.dtype() && V.dtype() == Q.dtype() && heads >= 1,
          "fused_attention: ", Q.dtype(), " Q ", q, ", ", K.dtype(), " K ", k, ", ", V.dtype(), " V ", v);
  Layout layout = rank == 4 ? Layout{q[0], q[1], q[2], k[2], q[3], v[3], false}
                            : Layout{q[0], heads, q[1], k[1], q[2] / heads, v[2] / heads, true};
  const auto fits = [&](const Shape& s, std::int64_t T, std::int64_t d) {
    return rank == 4 ? s == Shape{layout.batch, layout.heads, T, d} : s == Shape{layout.batch, T, layout.heads * d};
  };
  require(fits(q, layout.Tq, layout.d_k) && fits(k, layout.Tk, layout.d_k) && fits(v, layout.Tk, layout.d_v),
          "fused_attention: Q ", q, ", K ", k, ", V ", v, " do not fit together in ", layout.heads, " heads");
  return layout;
}

// The steps of a mask that broadcasts to [B, heads, Tq, Tk].
Visibility::Mask steps_of(const Tensor& mask, const Layout& layout) {
  Shape shape = mask.shape();
  require(mask.dtype() == Dtype::boolean && shape.size() <= 4, "fused_attention: a ", mask.dtype(), " mask ", shape);
  while (shape.size() < 3) shape.insert(shape.begin(), 1);
  if (shape.size() == 3) shape.insert(shape.begin() + 1, 1);
  const std::int64_t full[] = {layout.batch, layout.heads, layout.Tq, layout.Tk};
  std::int64_t steps[4], step = 1;
  for (std::size_t axis = 4; axis-- > 0; step *= shape[axis]) {
    require(shape[axis] == 1 || shape[axis] == full[axis], "fused_attention: a mask ", mask.shape(), " for ",
            layout.batch, " x ", layout.heads, " heads of ", layout.Tq, " x ", layout.Tk);
    steps[axis] = shape[axis] == 1 ? 0 : step;
  }
  return {data<bool>(mask), steps[0], steps[1], steps[2], steps[3]};
}

std::optional<Visibility> visibility_of(const Tensor& mask, bool causal, const Layout& layout) {
  if (mask.empty() && !causal) return {};
  const Visibility::Mask steps = mask.empty() ? Visibility::Mask{} : steps_of(mask, layout);
  return Visibility(steps, causal, layout.batch, layout.heads, layout.Tq, layout.Tk);
}

template <class T>
kernels::AttentionProblem<T> problem_of(const Layout& l, double scale, const Tensor& Q, const Tensor& K,
                                        const Tensor& V, const std::optional<Visibility>& visibility) {
  return {l.batch, l.heads, l.Tq, l.Tk, l.d_k, l.d_v, scale, l.view(data<T>(Q), l.Tq, l.d_k),
          l.view(data<T>(K), l.Tk, l.d_k), l.view(data<T>(V), l.Tk, l.d_v), visibility ? &*visibility : nullptr};
}

// statistics: a plain buffer of the kernel, no part of any graph.
Grads pull(const Ins& in, Out y, Grad g, const Layout& layout, bool causal, double scale, const Tensor& statistics) {
  const Tensor mask = in.size() > 3 ? in[3] : Tensor();
  const auto visibility = visibility_of(mask, causal, layout);
  Tensor gradients[3];
  for (std::size_t i = 0; i < 3; ++i)
    if (in.wanted(i)) gradients[i] = make(in[i].shape(), y.dtype());
  visit_floating(y.dtype(), [&]<class T>(T) {
    const auto writable = [&](std::size_t i, std::int64_t rows, std::int64_t d) {
      return gradients[i].empty() ? HeadsView<T>{} : layout.view(fresh<T>(gradients[i]), rows, d);
    };
    const kernels::AttentionGradients<T> gradients_of{
        layout.view(data<T>(y), layout.Tq, layout.d_v), layout.view(data<T>(g), layout.Tq, layout.d_v),
        data<T>(statistics), writable(0, layout.Tq, layout.d_k), writable(1, layout.Tk, layout.d_k),
        writable(2, layout.Tk, layout.d_v)};
    kernels::attention_backward(problem_of<T>(layout, scale, in[0], in[1], in[2], visibility), gradients_of);
  });
  Grads result{gradients[0], gradients[1], gradients[2]};
  if (in.size() > 3) result.push_back(Tensor());
  return result;
}

}  // namespace

Tensor fused_attention(const Tensor& Q, const Tensor& K, const Tensor& V, const FusedAttentionOptions& options,
                       Reference reference) {
  const Layout layout = layout_of(Q, K, V, options.heads);
  const auto visibility = visibility_of(options.mask, options.causal, layout);
  Shape shape = Q.shape();
  shape.back() = V.shape().back();
  Tensor output = make(std::move(shape), Q.dtype());
  const Tensor statistics = make({2, layout.batch * layout.heads, layout.Tq}, Q.dtype());
  visit_floating(Q.dtype(), [&]<class T>(T) {
    kernels::attention_forward(problem_of<T>(layout, options.scale, Q, K, V, visibility),
                               layout.view(fresh<T>(output), layout.Tq, layout.d_v), fresh<T>(statistics));
  });
  Inputs inputs{Q, K, V};
  if (options.mask.defined()) inputs.push_back(options.mask);
  return fused("attention", std::move(inputs), std::move(output),
               [layout, causal = options.causal, scale = options.scale, statistics](const Ins& in, Out y, Grad g) {
                 return pull(in, y, g, layout, causal, scale, statistics);
               },
               std::move(reference));
}

}  // namespace surgeon
