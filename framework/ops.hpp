// The whole vocabulary. Names and meanings are NumPy's and PyTorch's. Every op checks its arguments and throws one
// sentence with its name and the shapes: std::out_of_range for an index or an axis, else std::invalid_argument.
// Rules that hold everywhere:
//   dtypes never promote: operands must match; a plain number takes the tensor's dtype
//   shapes broadcast as in NumPy; a negative axis counts from the end
//   every op on float32 and float64 is differentiable to any order, unless its line says "no gradient"
//   nan in, nan out, also through max, min and cumsum; a value that is masked out does not count as "in"
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <span>
#include <vector>

#include "framework/random.hpp"
#include "framework/tensor.hpp"

namespace surgeon {

// ---- Element by element; a and b broadcast -------------------------------------------------------------------------
Tensor operator+(const Tensor& a, const Tensor& b);
Tensor operator-(const Tensor& a, const Tensor& b);
Tensor operator*(const Tensor& a, const Tensor& b);
Tensor operator/(const Tensor& a, const Tensor& b);   // float32 and float64 only
Tensor operator+(const Tensor& a, double b);
Tensor operator-(const Tensor& a, double b);
Tensor operator*(const Tensor& a, double b);
Tensor operator/(const Tensor& a, double b);
Tensor operator+(double a, const Tensor& b);
Tensor operator-(double a, const Tensor& b);
Tensor operator*(double a, const Tensor& b);
Tensor operator/(double a, const Tensor& b);
Tensor operator-(const Tensor& x);

// The result is boolean; no gradient. A comparison with nan is false, except that != is true.
Tensor operator==(const Tensor& a, const Tensor& b);
Tensor operator!=(const Tensor& a, const Tensor& b);
Tensor operator<(const Tensor& a, const Tensor& b);
Tensor operator<=(const Tensor& a, const Tensor& b);
Tensor operator>(const Tensor& a, const Tensor& b);
Tensor operator>=(const Tensor& a, const Tensor& b);
Tensor operator==(const Tensor& a, double b);
Tensor operator!=(const Tensor& a, double b);
Tensor operator<(const Tensor& a, double b);
Tensor operator<=(const Tensor& a, double b);
Tensor operator>(const Tensor& a, double b);
Tensor operator>=(const Tensor& a, double b);
inline Tensor operator==(double a, const Tensor& b) { return b == a; }
inline Tensor operator!=(double a, const Tensor& b) { return b != a; }
inline Tensor operator<(double a, const Tensor& b) { return b > a; }
inline Tensor operator<=(double a, const Tensor& b) { return b >= a; }
inline Tensor operator>(double a, const Tensor& b) { return b < a; }
inline Tensor operator>=(double a, const Tensor& b) { return b <= a; }
Tensor operator!(const Tensor& mask);   // boolean only
Tensor isnan(const Tensor& x);

Tensor abs(const Tensor& x);      // derivative sign(x), 0 at 0
Tensor sign(const Tensor& x);     // -1, 0 or 1; derivative 0
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor pow(const Tensor& x, double p);
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor relu(const Tensor& x);     // relu'(0) = 0
Tensor silu(const Tensor& x);     // x sigmoid(x)
Tensor softplus(const Tensor& x); // log(1 + exp(x)), finite wherever x is
enum class Gelu { exact, tanh };
Tensor gelu(const Tensor& x, Gelu kind = Gelu::exact);   // x Phi(x); tanh: Hendrycks & Gimpel 2016, arXiv 1606.08415
Tensor erf(const Tensor& x);
Tensor sin(const Tensor& x);
Tensor cos(const Tensor& x);
Tensor clamp(const Tensor& x, double low, double high);  // derivative 1 between and on the bounds, 0 outside
Tensor maximum(const Tensor& a, const Tensor& b);        // in a tie each gets half the gradient
Tensor minimum(const Tensor& a, const Tensor& b);
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);   // boolean condition; all three broadcast
// x, with `value` where mask is true; there the gradient is exactly 0, whatever x holds. The mask is boolean, or float
// with nothing but 0 and 1, and broadcasts to x.
Tensor masked_fill(const Tensor& x, const Tensor& mask, double value);
// Sets each element to 0 with probability p and divides the others by 1 - p, so that the expected value stays x.
// 0 <= p <= 1; with p = 1 everything is 0.
Tensor dropout(const Tensor& x, double p, Rng& rng);

// ---- Reductions ----------------------------------------------------------------------------------------------------
struct Over {
  std::vector<int> axes = {};   // empty: all of them
  bool keepdims = false;
};
// Over an axis of size 0, sum gives 0; all others throw std::invalid_argument.
Tensor sum(const Tensor& x, const Over& over = {});     // booleans and integers give int64
Tensor mean(const Tensor& x, const Over& over = {});
Tensor max(const Tensor& x, const Over& over = {});     // elements that tie share the gradient equally
Tensor min(const Tensor& x, const Over& over = {});
struct VarOptions {
  std::vector<int> axes = {};
  bool keepdims = false;
  int correction = 1;           // the divisor is n - correction; 1 gives the unbiased estimate, as in PyTorch
};
Tensor var(const Tensor& x, const VarOptions& options = {});
Tensor logsumexp(const Tensor& x, const Over& over = {});   // all -inf gives -inf, with gradient 0
// Short forms: sum(x, -1), sum(x, {0, 1}). They are templates, so that {} means all axes and {-1, true} does not
// compile.
template <class I> concept AxisNumber = std::integral<I> && !std::same_as<I, bool>;
template <AxisNumber I> Tensor sum(const Tensor& x, I axis) { return sum(x, Over{{int(axis)}}); }
template <std::same_as<int> I> Tensor sum(const Tensor& x, std::initializer_list<I> axes) { return sum(x, Over{axes}); }
template <AxisNumber I> Tensor mean(const Tensor& x, I axis) { return mean(x, Over{{int(axis)}}); }
template <std::same_as<int> I> Tensor mean(const Tensor& x, std::initializer_list<I> axes) {
  return mean(x, Over{axes});
}
template <AxisNumber I> Tensor max(const Tensor& x, I axis) { return max(x, Over{{int(axis)}}); }
template <std::same_as<int> I> Tensor max(const Tensor& x, std::initializer_list<I> axes) { return max(x, Over{axes}); }
template <AxisNumber I> Tensor min(const Tensor& x, I axis) { return min(x, Over{{int(axis)}}); }
template <std::same_as<int> I> Tensor min(const Tensor& x, std::initializer_list<I> axes) { return min(x, Over{axes}); }
template <AxisNumber I> Tensor var(const Tensor& x, I axis) { return var(x, VarOptions{{int(axis)}}); }
template <std::same_as<int> I> Tensor var(const Tensor& x, std::initializer_list<I> axes) {
  return var(x, VarOptions{axes});
}
template <AxisNumber I> Tensor logsumexp(const Tensor& x, I axis) { return logsumexp(x, Over{{int(axis)}}); }
template <std::same_as<int> I> Tensor logsumexp(const Tensor& x, std::initializer_list<I> axes) {
  return logsumexp(x, Over{axes});
}
Tensor argmax(const Tensor& x, int axis);   // int64: the first of the largest, nan being largest; no gradient
Tensor cumsum(const Tensor& x, int axis);

// Softmax over one axis: exp(x - max) / sum. A slice that is -inf throughout gives zeros with gradient 0, not nan.
// A slice with +inf or nan in it gives nan.
Tensor softmax(const Tensor& x, int axis = -1);
Tensor log_softmax(const Tensor& x, int axis = -1);   // a slice that is -inf throughout stays so, with gradient 0

// ---- Shape: the numbers move, but do not change --------------------------------------------------------------------
Tensor reshape(const Tensor& x, const Shape& shape);   // one size may be -1
Tensor transpose(const Tensor& x, int a, int b);
Tensor permute(const Tensor& x, const std::vector<int>& order);
inline constexpr std::int64_t to_end = std::numeric_limits<std::int64_t>::max();
// start, stop and step as in Python's x[start:stop:step]: negative ones count from the end, and what is out of range
// is clipped. A negative step walks backwards; then stop = -to_end includes the first element.
Tensor slice(const Tensor& x, int axis, std::int64_t start, std::int64_t stop = to_end, std::int64_t step = 1);
Tensor concat(const std::vector<Tensor>& ts, int axis);
Tensor stack(const std::vector<Tensor>& ts, int axis);   // along a new axis
Tensor broadcast_to(const Tensor& x, const Shape& shape);
// The lower (upper) triangle of the matrices along the last two axes, the diagonal included; the rest becomes 0.
// diagonal: 1 is the one above the main diagonal, -1 the one below.
Tensor tril(const Tensor& x, std::int64_t diagonal = 0);
Tensor triu(const Tensor& x, std::int64_t diagonal = 0);

// ---- Picking by index: int64, itself without a derivative ----------------------------------------------------------
Tensor gather(const Tensor& x, int axis, const Tensor& index);   // as torch.gather: index has x's rank
// The adjoint of gather: adds the numbers of `source` into zeros of this shape.
Tensor scatter_add(const Shape& shape, int axis, const Tensor& index, const Tensor& source);
Tensor embedding(const Tensor& weight, const Tensor& index);     // weight [V, d]; index of any shape -> [..., d]
Tensor one_hot(const Tensor& index, std::int64_t classes, Dtype dtype = Dtype::float32);   // no gradient

// ---- Products (BLAS) -----------------------------------------------------------------------------------------------
struct MatmulOptions {
  bool transpose_a = false;   // swaps the last two axes, without a copy
  bool transpose_b = false;
};
// As np.matmul: a 1-D operand is a row on the left and a column on the right; leading axes broadcast; an inner size of
// 0 gives zeros.
Tensor matmul(const Tensor& a, const Tensor& b, const MatmulOptions& options = {});
// x [..., in], weight [out, in], bias [out] or empty -> [..., out]: x weight^T + bias
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

// ---- Normalisation and losses --------------------------------------------------------------------------------------
// Over the last axis: (x - mean) / sqrt(var + eps) * gamma + beta, with the biased variance. Ba 2016, arXiv 1607.06450.
Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps = 1e-5);
// Over the last axis: x / sqrt(mean of x^2 + eps) * gamma. Zhang & Sennrich 2019, arXiv 1910.07467.
Tensor rms_norm(const Tensor& x, const Tensor& gamma, double eps = 1e-6);

enum class Reduction { mean, sum, none };
struct CrossEntropyOptions {
  Reduction reduction = Reduction::mean;   // mean: over the targets that are not ignored, as in PyTorch
  std::int64_t ignore_index = -100;        // targets with this value are ignored
  double label_smoothing = 0.0;            // in [0, 1]
};
// In nats. logits [..., C], target int64 [...]. The mean with every target ignored is nan, as in PyTorch.
Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options = {});
Tensor mse_loss(const Tensor& x, const Tensor& target, Reduction reduction = Reduction::mean);

// ---- Attention -----------------------------------------------------------------------------------------------------
// How heads lie in a tensor: [B, heads, T, d], or [B, T, heads * d].
enum class Heads { apart, side_by_side };

struct FusedAttentionOptions {
  Tensor mask = {};         // boolean, true = may attend: [Tq, Tk], [B, Tq, Tk] or [B, heads, Tq, Tk]; sizes may be 1
  bool causal = false;      // also: query i sees key j only when j <= i + Tk - Tq
  double scale = 1.0;
  std::int64_t heads = 1;   // of 3-D inputs, which lie side by side; 4-D inputs say it themselves
};

// softmax(scale Q K^T) V for Q [B, Tq, heads * d_k], K [B, Tk, heads * d_k], V [B, Tk, heads * d_v], giving
// [B, Tq, heads * d_v]; or all of them [B, heads, T, d]. float32 or float64. A query that sees nothing gives 0; what is
// not seen has no part in the result or in a gradient, even when it is nan. reference: the same function in plain ops of
// (Q, K, V) or (Q, K, V, mask), for higher derivatives. Bit-equal from run to run and for any number of threads.
// Dao 2022, arXiv 2205.14135.
Tensor fused_attention(const Tensor& Q, const Tensor& K, const Tensor& V, const FusedAttentionOptions& options,
                       std::function<Tensor(std::span<const Tensor>)> reference);

namespace detail {
// The one check of attention's inputs, for every way to it: "OP: Q [...], K [...], V [...]: what does not fit".
// kv_heads may be a divisor of heads when heads lie apart.
struct AttentionSizes {
  std::int64_t batch, heads, kv_heads, Tq, Tk, d_k, d_v;
  Heads lie;
};
AttentionSizes attention_sizes(const char* op, const Tensor& Q, const Tensor& K, const Tensor& V,
                               std::int64_t heads_side_by_side = 1);
// fused_attention for inputs and a mask that have been checked, with kv_heads = heads.
Tensor fused_attention(const AttentionSizes& sizes, const Tensor& Q, const Tensor& K, const Tensor& V,
                       const FusedAttentionOptions& options, std::function<Tensor(std::span<const Tensor>)> reference);
}  // namespace detail

}  // namespace surgeon
