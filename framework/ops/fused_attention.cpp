// Shapes, masks and the gradient rule of fused attention; the work is in kernels/attention.hpp.
#include <memory>

#include "framework/autograd.hpp"
#include "framework/detail/node.hpp"
#include "framework/errors.hpp"
#include "framework/kernels/attention.hpp"
#include "framework/ops.hpp"

namespace surgeon {

using detail::AttentionSizes;
using detail::data;
using detail::fresh;
using detail::make;
using detail::visit_floating;

namespace {

using kernels::HeadsView;
using kernels::Visibility;

template <class T>
HeadsView<T> view(const AttentionSizes& sizes, T* data, std::int64_t rows, std::int64_t d) {
  if (sizes.lie == Heads::side_by_side) return {data, rows * sizes.heads * d, d, sizes.heads * d};
  return {data, sizes.heads * rows * d, rows * d, d};
}

// A mask's shape with all four axes: [batch, heads, Tq, Tk], each its full size or 1.
Shape four_axes(const Tensor& mask) {
  Shape shape = mask.shape();
  while (shape.size() < 3) shape.insert(shape.begin(), 1);
  if (shape.size() == 3) shape.insert(shape.begin() + 1, 1);   // a batch entry's own mask holds for all of its heads
  return shape;
}

void check_mask(const Tensor& mask, const AttentionSizes& sizes) {
  require(mask.dtype() == Dtype::boolean && mask.rank() <= 4,
          "fused_attention: needs a boolean mask of at most 4 axes, not ", mask.dtype(), " ", mask.shape());
  const Shape shape = four_axes(mask), full{sizes.batch, sizes.heads, sizes.Tq, sizes.Tk};
  for (std::size_t axis = 0; axis < 4; ++axis)
    require(shape[axis] == 1 || shape[axis] == full[axis], "fused_attention: a mask ", mask.shape(),
            " does not fit [batch, heads, Tq, Tk] = ", full);
}

// Null: every query sees every key.
std::shared_ptr<const Visibility> visibility_of(const FusedAttentionOptions& options, const AttentionSizes& sizes) {
  if (options.mask.empty() && !options.causal) return {};
  Visibility::Mask mask;
  if (options.mask.defined()) {
    const Shape shape = four_axes(options.mask);
    std::int64_t steps[4], step = 1;
    for (std::size_t axis = 4; axis-- > 0; step *= shape[axis]) steps[axis] = shape[axis] == 1 ? 0 : step;
    mask = {data<bool>(options.mask), steps[0], steps[1], steps[2], steps[3]};
  }
  return std::make_shared<Visibility>(mask, options.causal, sizes.batch, sizes.heads, sizes.Tq, sizes.Tk);
}

// What the rule keeps: no tensor of any graph. The mask is packed once, for both ways.
struct Kept {
  AttentionSizes sizes;
  double scale;
  std::shared_ptr<const Visibility> visibility;
  Tensor statistics;   // a plain buffer of the kernel
};

template <class T>
kernels::AttentionProblem<T> problem_of(const Kept& kept, const Tensor& Q, const Tensor& K, const Tensor& V) {
  const AttentionSizes& s = kept.sizes;
  return {s.batch, s.heads, s.Tq, s.Tk, s.d_k, s.d_v, kept.scale, view(s, data<T>(Q), s.Tq, s.d_k),
          view(s, data<T>(K), s.Tk, s.d_k), view(s, data<T>(V), s.Tk, s.d_v), kept.visibility.get()};
}

Grads pull(const Ins& in, Out y, Grad g, const Kept& kept) {
  const AttentionSizes& s = kept.sizes;
  Tensor gradients[3];
  for (std::size_t i = 0; i < 3; ++i)
    if (in.wanted(i)) gradients[i] = make(in[i].shape(), y.dtype());
  visit_floating(y.dtype(), [&]<class T>(T) {
    const auto writable = [&](std::size_t i, std::int64_t rows, std::int64_t d) {
      return gradients[i].empty() ? HeadsView<T>{} : view(s, fresh<T>(gradients[i]), rows, d);
    };
    kernels::attention_backward(problem_of<T>(kept, in[0], in[1], in[2]),
                                {view(s, data<T>(y), s.Tq, s.d_v), view(s, data<T>(g), s.Tq, s.d_v),
                                 data<T>(kept.statistics), writable(0, s.Tq, s.d_k), writable(1, s.Tk, s.d_k),
                                 writable(2, s.Tk, s.d_v)});
  });
  Grads result{gradients[0], gradients[1], gradients[2]};
  if (in.size() > 3) result.push_back(Tensor());
  return result;
}

// The start of every complaint. Put together only when there is one: it costs more than a small attention.
struct AllShapes {
  const char* op;
  const Tensor &Q, &K, &V;
};
std::ostream& operator<<(std::ostream& out, const AllShapes& s) {
  return out << sentence(s.op, ": Q ", s.Q.shape(), ", K ", s.K.shape(), ", V ", s.V.shape(), ": ");
}

}  // namespace

AttentionSizes detail::attention_sizes(const char* op, const Tensor& Q, const Tensor& K, const Tensor& V,
                                       std::int64_t heads) {
  for (const Tensor* x : {&Q, &K, &V}) require_value(op, *x);
  const AllShapes all{op, Q, K, V};
  require(Q.dtype() == K.dtype() && Q.dtype() == V.dtype() && is_floating(Q.dtype()), op, ": Q, K and V are ",
          Q.dtype(), ", ", K.dtype(), " and ", V.dtype(), ": they must be all float32 or all float64");
  const int rank = Q.rank();
  require((rank == 3 || rank == 4) && K.rank() == rank && V.rank() == rank, all,
          "all must be [batch, T, d] or all [batch, heads, T, d]");
  require(Q.shape(0) == K.shape(0) && Q.shape(0) == V.shape(0), all, "batch sizes ", Q.shape(0), ", ", K.shape(0),
          " and ", V.shape(0), " differ");
  std::int64_t kv_heads = heads;
  if (rank == 4) {
    heads = Q.shape(1), kv_heads = K.shape(1);
    require(kv_heads == V.shape(1), all, kv_heads, " heads of keys but ", V.shape(1), " of values");
    require(heads == kv_heads || (kv_heads > 0 && heads % kv_heads == 0), all, kv_heads,
            " heads of keys do not divide ", heads, " heads of queries");
  }
  require(Q.shape(-1) == K.shape(-1), all, "d_k ", Q.shape(-1), " of Q and ", K.shape(-1), " of K differ");
  require(K.shape(-2) == V.shape(-2), all, K.shape(-2), " keys but ", V.shape(-2), " values");
  const std::int64_t parts = rank == 4 ? 1 : heads;   // of the last axis
  require(parts >= 1 && Q.shape(-1) % parts == 0 && V.shape(-1) % parts == 0, all,
          "the last axes cannot be divided into ", parts, " heads");
  return {Q.shape(0), heads, kv_heads, Q.shape(-2), K.shape(-2), Q.shape(-1) / parts, V.shape(-1) / parts,
          rank == 4 ? Heads::apart : Heads::side_by_side};
}

Tensor detail::fused_attention(const AttentionSizes& sizes, const Tensor& Q, const Tensor& K, const Tensor& V,
                               const FusedAttentionOptions& options, Reference reference) {
  Shape shape = Q.shape();
  shape.back() = V.shape().back();
  Tensor output = make(std::move(shape), Q.dtype());
  Kept kept{sizes, options.scale, visibility_of(options, sizes),
            make({2, sizes.batch * sizes.heads, sizes.Tq}, Q.dtype())};
  visit_floating(Q.dtype(), [&]<class T>(T) {
    kernels::attention_forward(problem_of<T>(kept, Q, K, V), view(sizes, fresh<T>(output), sizes.Tq, sizes.d_v),
                               fresh<T>(kept.statistics));
  });
  Inputs inputs{Q, K, V};
  if (options.mask.defined()) inputs.push_back(options.mask);
  return fused("attention", std::move(inputs), std::move(output),
               [kept = std::move(kept)](const Ins& in, Out y, Grad g) { return pull(in, y, g, kept); },
               std::move(reference));
}

Tensor fused_attention(const Tensor& Q, const Tensor& K, const Tensor& V, const FusedAttentionOptions& options,
                       Reference reference) {
  const AttentionSizes sizes = detail::attention_sizes("fused_attention", Q, K, V, options.heads);
  require(sizes.kv_heads == sizes.heads, "fused_attention: ", sizes.heads, " heads of queries but ", sizes.kv_heads,
          " of keys");
  if (options.mask.defined()) check_mask(options.mask, sizes);
  return detail::fused_attention(sizes, Q, K, V, options, std::move(reference));
}

}  // namespace surgeon
