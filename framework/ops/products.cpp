// Products, all through BLAS: matmul in every shape np.matmul takes, and linear. Transposed operands are read in place.
#include "framework/kernels/gemm.hpp"
#include "framework/kernels/strides.hpp"
#include "framework/ops.hpp"
#include "framework/ops/common.hpp"

namespace surgeon {

using detail::data;
using detail::fresh;
using detail::make;
using kernels::MatrixView;

namespace {

void check_inner_sizes(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  const std::int64_t left = a.shape(options.transpose_a ? -2 : -1), right = b.shape(options.transpose_b ? -1 : -2);
  require(left == right, "matmul: ", a.shape(), options.transpose_a ? "^T" : "", " x ", b.shape(),
          options.transpose_b ? "^T" : "", ": inner sizes ", left, " and ", right, " differ");
}

template <class T>
void require_steps(const char* op, const MatrixView<T>& x) {
  require<std::length_error>(steps_fit(x), op, ": a row of ", x.step, " numbers is longer than the ",
                             kernels::largest_blas_size.load(), " that BLAS can take");
}

// The first matrix of x, as it enters the product.
template <class T>
MatrixView<const T> matrix(const Tensor& x, bool transpose) {
  const MatrixView<const T> view{data<T>(x), x.shape(-2), x.shape(-1)};
  return transpose ? transposed(view) : view;
}

// The one `index` matrices further on.
template <class T>
MatrixView<T> further(MatrixView<T> x, std::int64_t index) {
  x.data += index * x.rows * x.columns;
  return x;
}

Shape leading(const Tensor& x) { return {x.shape().begin(), x.shape().end() - 2}; }

// Both of rank 2 or more.
Tensor product(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  check_inner_sizes(a, b, options);
  const Shape batch = ops::broadcast_shape("matmul", a.shape(), b.shape(), 2);
  const std::int64_t m = a.shape(options.transpose_a ? -1 : -2), n = b.shape(options.transpose_b ? -2 : -1);
  const std::int64_t k = a.shape(options.transpose_a ? -2 : -1);
  Shape shape = batch;
  shape.insert(shape.end(), {m, n});
  Tensor y = make(std::move(shape), a.dtype());
  if (y.size() == 0) return y;
  const std::int64_t matrices = y.size() / (m * n);
  constexpr std::int64_t worth_a_thread = 1 << 18;   // multiply-adds
  // Many products: each thread takes some. Few: the threads share each.
  const bool few = matrices < kernels::thread_count();
  const std::int64_t grain = few ? matrices : worth_a_thread / (m * n * k + 1) + 1;
  const kernels::Walk<3> walk(batch, {kernels::broadcast_strides(leading(a), batch),
                                      kernels::broadcast_strides(leading(b), batch),
                                      kernels::broadcast_strides(batch, batch)});
  detail::visit_floating(a.dtype(), [&]<class T>(T) {
    const auto first_a = matrix<T>(a, options.transpose_a), first_b = matrix<T>(b, options.transpose_b);
    const MatrixView<T> first_y{fresh<T>(y), m, n};
    require_steps("matmul", first_a);
    require_steps("matmul", first_b);
    require_steps("matmul", first_y);
    walk.run(grain, [&](const auto& at, std::int64_t run) {
      for (std::int64_t i = 0; i < run; ++i) {
        const auto A = further(first_a, at[0] + i * walk.step(0)), B = further(first_b, at[1] + i * walk.step(1));
        const auto C = further(first_y, at[2] + i * walk.step(2));
        if (few) gemm_parallel(1, A, B, 0, C);
        else gemm(1, A, B, 0, C);
      }
    });
  });
  return y;
}

// All but the last axis in one.
Tensor flat(const Tensor& x) { return reshape(x, {count({x.shape().begin(), x.shape().end() - 1}), x.shape(-1)}); }

// matmul of which one operand is 1-D: a row on the left, a column on the right. The axis added for it goes again.
Tensor product_with_vector(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  require(!(a.rank() == 1 && options.transpose_a) && !(b.rank() == 1 && options.transpose_b), "matmul: ", a.shape(),
          " x ", b.shape(), ": a 1-D operand cannot be transposed");
  const std::int64_t left_inner = a.shape(options.transpose_a ? -2 : -1);
  const std::int64_t right_inner = b.shape(b.rank() == 1 || options.transpose_b ? -1 : -2);
  require(left_inner == right_inner, "matmul: ", a.shape(), " x ", b.shape(), ": inner sizes ", left_inner, " and ",
          right_inner, " differ");
  const Tensor left = a.rank() == 1 ? reshape(a, {1, a.size()}) : a;
  const Tensor right = b.rank() == 1 ? reshape(b, {b.size(), 1}) : b;
  const Tensor y = matmul(left, right, options);
  Shape shape = y.shape();
  if (b.rank() == 1) shape.pop_back();
  if (a.rank() == 1) shape.erase(shape.end() - (b.rank() == 1 ? 1 : 2));
  return reshape(y, shape);
}

void check_linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  require_value("linear", x);
  require_value("linear", weight);
  require(is_floating(x.dtype()) && x.dtype() == weight.dtype() && (bias.empty() || bias.dtype() == x.dtype()),
          "linear: ", x.dtype(), " x with ", weight.dtype(), " weight",
          bias.empty() ? "" : " and " + to_string(bias.dtype()) + " bias");
  require(weight.rank() == 2 && x.rank() >= 1 && x.shape(-1) == weight.shape(1), "linear: x ", x.shape(),
          " with weight ", weight.shape(), ": the weight must be [out, in], and the last axis of x must have size in");
  const std::int64_t out = weight.shape(0);
  require(bias.empty() || bias.shape() == Shape{out}, "linear: bias ", bias.shape(), " with weight ", weight.shape(),
          ": the bias must be [", out, "]");
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  require_value("matmul", a);
  ops::require_same_dtype("matmul", a, b);
  require_floating("matmul", a);
  require(a.rank() > 0 && b.rank() > 0, "matmul: ", a.shape(), " x ", b.shape(), ": a scalar has no rows (use *)");
  if (a.rank() == 1 || b.rank() == 1) return product_with_vector(a, b, options);
  if (a.rank() > 2 && b.rank() == 2 && !options.transpose_a) {
    // One tall product instead of many, in the gradients too.
    check_inner_sizes(a, b, options);
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
  check_linear(x, weight, bias);
  const std::int64_t in = weight.shape(1), out = weight.shape(0);
  if (x.rank() != 2) {
    Shape shape = x.shape();
    shape.back() = out;
    const std::int64_t rows = count({shape.begin(), shape.end() - 1});
    return reshape(linear(reshape(x, {rows, in}), weight, bias), shape);
  }
  const std::int64_t rows = x.shape(0);
  Tensor y = make({rows, out}, x.dtype());
  detail::visit_floating(x.dtype(), [&]<class T>(T) {
    const auto X = matrix<T>(x, false), W = matrix<T>(weight, false);
    const MatrixView<T> Y{fresh<T>(y), rows, out};
    require_steps("linear", X);
    require_steps("linear", Y);
    // The bias is laid out first and the product added to it: one pass less over y.
    for (std::int64_t i = 0; i < rows && !bias.empty(); ++i) std::copy_n(data<T>(bias), out, Y.data + i * out);
    gemm_parallel(1, X, transposed(W), bias.empty() ? 0 : 1, Y);
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
