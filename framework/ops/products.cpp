// Products, all through BLAS: matmul in every shape np.matmul takes, and linear. Transposed operands are read in place.
#include <limits>

#include "framework/autograd.hpp"
#include "framework/detail/node.hpp"
#include "framework/errors.hpp"
#include "framework/kernels/gemm.hpp"
#include "framework/kernels/strides.hpp"
#include "framework/ops.hpp"

namespace surgeon {

using detail::data;
using detail::fresh;
using detail::make;

namespace {

// op(A) [m, k] times op(B) [k, n].
struct Sizes {
  std::int64_t m, n, k;
};

Sizes checked_sizes(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  const Sizes sizes{a.shape(options.transpose_a ? -1 : -2), b.shape(options.transpose_b ? -2 : -1),
                    a.shape(options.transpose_a ? -2 : -1)};
  const std::int64_t inner = b.shape(options.transpose_b ? -1 : -2);
  require(sizes.k == inner, "matmul: ", a.shape(), options.transpose_a ? "^T" : "", " x ", b.shape(),
          options.transpose_b ? "^T" : "", ": inner sizes ", sizes.k, " and ", inner, " differ");
  constexpr std::int64_t limit = std::numeric_limits<int>::max();
  require<std::length_error>(sizes.m <= limit && sizes.n <= limit && sizes.k <= limit, "matmul: ", a.shape(), " x ",
                             b.shape(), ": BLAS counts to 2^31 - 1 only");
  return sizes;
}

Shape batch_shape(const Tensor& a, const Tensor& b) {
  const Shape left(a.shape().begin(), a.shape().end() - 2), right(b.shape().begin(), b.shape().end() - 2);
  Shape batch(std::max(left.size(), right.size()), 1);
  for (std::size_t k = 1; k <= batch.size(); ++k) {
    const std::int64_t l = k <= left.size() ? left[left.size() - k] : 1;
    const std::int64_t r = k <= right.size() ? right[right.size() - k] : 1;
    require(l == r || l == 1 || r == 1, "matmul: ", a.shape(), " x ", b.shape(), ": batch sizes ", l, " and ", r,
            " do not broadcast");
    batch[batch.size() - k] = l == 1 ? r : l;
  }
  return batch;
}

// Both of rank 2 or more.
Tensor product(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  const Sizes sizes = checked_sizes(a, b, options);
  const std::int64_t m = sizes.m, n = sizes.n, k = sizes.k;   // clang 14 cannot capture a structured binding
  const Shape batch = batch_shape(a, b);
  Shape shape = batch;
  shape.insert(shape.end(), {m, n});
  Tensor y = make(std::move(shape), a.dtype());
  if (y.size() == 0) return y;
  const std::int64_t matrices = y.size() / (m * n), lda = a.shape(-1), ldb = b.shape(-1);
  constexpr std::int64_t worth_a_thread = 1 << 18;   // multiply-adds
  // Many products: each thread takes some. Few: the threads share each.
  const bool few = matrices < kernels::thread_count();
  const std::int64_t grain = few ? matrices : worth_a_thread / (m * n * k + 1) + 1;
  const Shape batch_a(a.shape().begin(), a.shape().end() - 2), batch_b(b.shape().begin(), b.shape().end() - 2);
  const kernels::Walk<3> walk(batch, {kernels::broadcast_strides(batch_a, batch), kernels::broadcast_strides(batch_b, batch),
                                      kernels::broadcast_strides(batch, batch)});
  detail::visit_floating(a.dtype(), [&]<class T>(T) {
    walk.run(grain, [&](const auto& at, std::int64_t run) {
      for (std::int64_t i = 0; i < run; ++i) {
        const T* A = data<T>(a) + (at[0] + i * walk.step(0)) * m * k;
        const T* B = data<T>(b) + (at[1] + i * walk.step(1)) * k * n;
        T* C = fresh<T>(y) + (at[2] + i * walk.step(2)) * m * n;
        if (few) kernels::gemm_parallel(options.transpose_a, options.transpose_b, m, n, k, T(1), A, lda, B, ldb, T(0), C, n);
        else kernels::gemm(options.transpose_a, options.transpose_b, m, n, k, T(1), A, lda, B, ldb, T(0), C, n);
      }
    });
  });
  return y;
}

// All but the last axis in one.
Tensor flat(const Tensor& x) { return reshape(x, {count({x.shape().begin(), x.shape().end() - 1}), x.shape(-1)}); }

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  require_value("matmul", a);
  require_value("matmul", b);
  require(a.dtype() == b.dtype(), "matmul: ", a.dtype(), " with ", b.dtype(), " (dtypes never promote: use .to)");
  require(is_floating(a.dtype()), "matmul: needs float32 or float64, not ", a.dtype());
  require(a.rank() > 0 && b.rank() > 0, "matmul: ", a.shape(), " x ", b.shape(), ": a scalar has no rows (use *)");
  if (a.rank() == 1 || b.rank() == 1) {
    // A row on the left, a column on the right; the axis added for it goes again.
    require(!(a.rank() == 1 && options.transpose_a) && !(b.rank() == 1 && options.transpose_b), "matmul: ", a.shape(), " x ",
            b.shape(), ": a 1-D operand cannot be transposed");
    const std::int64_t inner = a.shape(options.transpose_a ? -2 : -1);
    const std::int64_t other = b.shape(b.rank() == 1 || options.transpose_b ? -1 : -2);
    require(inner == other, "matmul: ", a.shape(), " x ", b.shape(), ": inner sizes ", inner, " and ", other, " differ");
    const Tensor left = a.rank() == 1 ? reshape(a, {1, a.size()}) : a;
    const Tensor right = b.rank() == 1 ? reshape(b, {b.size(), 1}) : b;
    const Tensor y = matmul(left, right, options);
    Shape shape = y.shape();
    if (b.rank() == 1) shape.pop_back();
    if (a.rank() == 1) shape.erase(shape.end() - (b.rank() == 1 ? 1 : 2));
    return reshape(y, shape);
  }
  if (a.rank() > 2 && b.rank() == 2 && !options.transpose_a) {   // one tall product instead of many, in the gradients too
    checked_sizes(a, b, options);
    Shape shape = a.shape();
    shape.back() = b.shape(options.transpose_b ? 0 : 1);
    return reshape(matmul(flat(a), b, options), shape);
  }
  return record("matmul", {a, b}, product(a, b, options), [options](const Ins& in, Out, Grad g) -> Grads {
    const auto [ta, tb] = options;
    Tensor da, db;
    if (in.wanted(0))
      da = ta ? matmul(in[1], g, {.transpose_a = tb, .transpose_b = true}) : matmul(g, in[1], {.transpose_b = !tb});
    if (in.wanted(1))
      db = tb ? matmul(g, in[0], {.transpose_a = true, .transpose_b = ta}) : matmul(in[0], g, {.transpose_a = !ta});
    return {da, db};
  });
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  require_value("linear", x);
  require_value("linear", weight);
  require(is_floating(x.dtype()) && x.dtype() == weight.dtype() && (bias.empty() || bias.dtype() == x.dtype()), "linear: ",
          x.dtype(), " x with ", weight.dtype(), " weight", bias.empty() ? "" : " and " + to_string(bias.dtype()) + " bias");
  require(weight.rank() == 2 && x.rank() >= 1 && x.shape(-1) == weight.shape(1), "linear: x ", x.shape(), " with weight ",
          weight.shape(), ": the last size of x must be the weight's, [out, in]");
  const std::int64_t in = weight.shape(1), out = weight.shape(0);
  require(bias.empty() || bias.shape() == Shape{out}, "linear: bias ", bias.shape(), " with weight ", weight.shape());
  if (x.rank() != 2) {
    Shape shape = x.shape();
    shape.back() = out;
    const std::int64_t rows = count({shape.begin(), shape.end() - 1});
    return reshape(linear(reshape(x, {rows, in}), weight, bias), shape);
  }
  const std::int64_t rows = x.shape(0);
  Tensor y = make({rows, out}, x.dtype());
  detail::visit_floating(x.dtype(), [&]<class T>(T) {
    // The bias is laid out first and the product added to it: one pass less over y.
    for (std::int64_t i = 0; i < rows && !bias.empty(); ++i) std::copy_n(data<T>(bias), out, fresh<T>(y) + i * out);
    kernels::gemm_parallel(false, true, rows, out, in, T(1), data<T>(x), in, data<T>(weight), in, T(bias.empty() ? 0 : 1),
                           fresh<T>(y), out);
  });
  const auto rule = [](const Ins& in, Out, Grad g) -> Grads {
    Grads gradients(in.wanted(0) ? matmul(g, in[1]) : Tensor(),
                    in.wanted(1) ? matmul(g, in[0], {.transpose_a = true}) : Tensor());
    if (in.size() == 3) gradients.push_back(in.wanted(2) ? sum(g, 0) : Tensor());
    return gradients;
  };
  return bias.empty() ? record("linear", {x, weight}, y, rule) : record("linear", {x, weight, bias}, y, rule);
}

}  // namespace surgeon
