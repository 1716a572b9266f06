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
#include <span>
#include <string>
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
Tensor operator&&(const Tensor& a, const Tensor& b);   // boolean only; both sides are always computed
Tensor operator||(const Tensor& a, const Tensor& b);
Tensor isnan(const Tensor& x);
Tensor isinf(const Tensor& x);
Tensor isfinite(const Tensor& x);   // neither nan nor infinite

Tensor abs(const Tensor& x);      // derivative sign(x), 0 at 0
Tensor sign(const Tensor& x);     // -1, 0 or 1; derivative 0
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor log1p(const Tensor& x);    // log(1 + x), exact where x is small
Tensor expm1(const Tensor& x);    // exp(x) - 1, the same
Tensor pow(const Tensor& x, double p);
Tensor pow(const Tensor& a, const Tensor& b);   // a^b; by b: a^b log a, and 0 where a is 0 and b is not negative
Tensor pow(double a, const Tensor& b);
Tensor floor(const Tensor& x);    // derivative 0, as of ceil and round
Tensor ceil(const Tensor& x);
Tensor round(const Tensor& x);    // halves to the even neighbour
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor relu(const Tensor& x);     // relu'(0) = 0
Tensor leaky_relu(const Tensor& x, double slope = 0.01);   // x above 0, else slope x
Tensor elu(const Tensor& x, double alpha = 1.0);           // x above 0, else alpha (exp(x) - 1)
Tensor silu(const Tensor& x);     // x sigmoid(x)
Tensor softplus(const Tensor& x); // log(1 + exp(x)), finite wherever x is
enum class Gelu { exact, tanh };
Tensor gelu(const Tensor& x, Gelu kind = Gelu::exact);   // x Phi(x); tanh: Hendrycks & Gimpel 2016, arXiv 1606.08415
Tensor erf(const Tensor& x);
Tensor erfc(const Tensor& x);     // 1 - erf(x), exact where that is small
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
Tensor stddev(const Tensor& x, const VarOptions& options = {});   // sqrt(var); derivative 0 where it is 0
inline Tensor std(const Tensor& x, const VarOptions& options = {}) { return stddev(x, options); }   // call it surgeon::std
Tensor prod(const Tensor& x, const Over& over = {});        // of no numbers: 1; derivatives right at 0 too
Tensor any(const Tensor& x, const Over& over = {});         // boolean: whether one is not 0; of no numbers false; no gradient
Tensor all(const Tensor& x, const Over& over = {});         // whether none is 0; of no numbers true; no gradient
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
template <AxisNumber I> Tensor stddev(const Tensor& x, I axis) { return stddev(x, VarOptions{{int(axis)}}); }
template <AxisNumber I> Tensor prod(const Tensor& x, I axis) { return prod(x, Over{{int(axis)}}); }
template <AxisNumber I> Tensor any(const Tensor& x, I axis) { return any(x, Over{{int(axis)}}); }
template <AxisNumber I> Tensor all(const Tensor& x, I axis) { return all(x, Over{{int(axis)}}); }
// sum(x, -1, true) as in PyTorch: the compiler says what to write.
namespace detail { template <class> inline constexpr bool never = false; }
template <AxisNumber I, std::same_as<bool> B> Tensor sum(const Tensor&, I, B) {
  static_assert(detail::never<I>, "write sum(x, {.axes = {-1}, .keepdims = true})");
  return {};
}
template <AxisNumber I, std::same_as<bool> B> Tensor mean(const Tensor&, I, B) {
  static_assert(detail::never<I>, "write mean(x, {.axes = {-1}, .keepdims = true})");
  return {};
}
template <AxisNumber I, std::same_as<bool> B> Tensor max(const Tensor&, I, B) {
  static_assert(detail::never<I>, "write max(x, {.axes = {-1}, .keepdims = true})");
  return {};
}
template <AxisNumber I, std::same_as<bool> B> Tensor min(const Tensor&, I, B) {
  static_assert(detail::never<I>, "write min(x, {.axes = {-1}, .keepdims = true})");
  return {};
}
template <AxisNumber I, std::same_as<bool> B> Tensor var(const Tensor&, I, B) {
  static_assert(detail::never<I>, "write var(x, {.axes = {-1}, .keepdims = true})");
  return {};
}
Tensor argmax(const Tensor& x, int axis);   // int64: the first of the largest, nan being largest; no gradient
Tensor argmin(const Tensor& x, int axis);   // the same of the smallest, nan being smallest; no gradient
Tensor cumsum(const Tensor& x, int axis);
struct Cumulate {
  bool reverse = false;     // from the end
  bool exclusive = false;   // without the number itself: starts with 0
};
Tensor cumsum(const Tensor& x, int axis, const Cumulate& how);
Tensor cumprod(const Tensor& x, int axis);   // derivatives right at 0 too

// Softmax over one axis: exp(x - max) / sum. A slice that is -inf throughout gives zeros with gradient 0, not nan.
// A slice with +inf or nan in it gives nan.
Tensor softmax(const Tensor& x, int axis = -1);
Tensor log_softmax(const Tensor& x, int axis = -1);   // a slice that is -inf throughout stays so, with gradient 0

// ---- Shape: the numbers move, but do not change --------------------------------------------------------------------
Tensor reshape(const Tensor& x, const Shape& shape);   // one size may be -1
Tensor transpose(const Tensor& x, int a, int b);
Tensor permute(const Tensor& x, const std::vector<int>& order);
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

Tensor squeeze(const Tensor& x, const std::vector<int>& axes = {});   // drops axes of size 1: all, or those named
Tensor unsqueeze(const Tensor& x, int axis);                          // a new axis of size 1 at this place
Tensor flatten(const Tensor& x, int first = 0, int last = -1);        // the axes from first to last made one
std::vector<Tensor> split(const Tensor& x, std::int64_t size, int axis);   // parts of this size, the last may be shorter
std::vector<Tensor> split(const Tensor& x, const std::vector<std::int64_t>& sizes, int axis);
std::vector<Tensor> chunk(const Tensor& x, std::int64_t chunks, int axis);   // at most so many equal parts, as torch.chunk
Tensor tile(const Tensor& x, const std::vector<std::int64_t>& repeats);      // of the last axes, as np.tile
Tensor flip(const Tensor& x, const std::vector<int>& axes);
Tensor roll(const Tensor& x, std::int64_t shift, int axis);   // what leaves at the end comes in at the start
Tensor diagonal(const Tensor& x, int first = -2, int second = -1);   // of two axes of one size, as the last axis
enum class PadMode { constant, edge, reflect };   // reflect: the edge itself is not repeated
struct Padding {
  struct Width { std::int64_t before = 0, after = 0; };
  PadMode mode = PadMode::constant;
  double value = 0.0;   // of constant
};
// widths: of the last axes, in order: pad(x, {{1, 1}, {0, 2}}) pads the last two.
Tensor pad(const Tensor& x, const std::vector<Padding::Width>& widths, const Padding& padding = {});

// ---- Picking by index: int64, itself without a derivative ----------------------------------------------------------
Tensor gather(const Tensor& x, int axis, const Tensor& index);   // as torch.gather: index has x's rank
// The adjoint of gather: adds the numbers of `source` into zeros of this shape.
Tensor scatter_add(const Shape& shape, int axis, const Tensor& index, const Tensor& source);
// x with source at the places of the index, as torch.scatter; of several for one place the last counts.
Tensor scatter(const Tensor& x, int axis, const Tensor& index, const Tensor& source);
Tensor bincount(const Tensor& x, std::int64_t at_least = 0);   // int64 [n]: counts of 0, 1, ...; no gradient
Tensor embedding(const Tensor& weight, const Tensor& index);     // weight [V, d]; index of any shape -> [..., d]
Tensor one_hot(const Tensor& index, std::int64_t classes, Dtype dtype = Dtype::float32);   // no gradient

// np.take: x.shape with one axis replaced by the index' shape. Negative indices count from the end.
Tensor take(const Tensor& x, const Tensor& index, int axis);
Tensor take(const Tensor& x, const Tensor& index);   // of x flattened
Tensor index_select(const Tensor& x, int axis, const Tensor& index);   // take, under PyTorch's name

enum class Order { ascending, descending };
struct Sorted {
  Tensor values;    // differentiable
  Tensor indices;   // int64, where they were
};
// Equals keep their order; nan counts as the largest.
Sorted sort(const Tensor& x, int axis = -1, Order order = Order::ascending);
Tensor argsort(const Tensor& x, int axis = -1, Order order = Order::ascending);   // the indices alone; no gradient
// The first k in this order: the largest with descending.
Sorted topk(const Tensor& x, std::int64_t k, int axis = -1, Order order = Order::descending);

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

// np.einsum: "bqd,bkd->bqk"; repeated letters, "..." and a result left out as there. One product for each operand.
Tensor einsum(const std::string& spec, const std::vector<Tensor>& operands);
struct Conv1dOptions {
  std::int64_t stride = 1, padding = 0, dilation = 1, groups = 1;   // padding: zeros at both ends
};
// x [B, C, T], weight [out, C / groups, k], bias [out] or empty -> [B, out, T'],
// T' = (T + 2 padding - dilation (k - 1) - 1) / stride + 1. Cross-correlation, as in PyTorch.
Tensor conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, const Conv1dOptions& options = {});

// ---- Normalisation and losses --------------------------------------------------------------------------------------
// Over the last axis: (x - mean) / sqrt(var + eps) * gamma + beta, with the biased variance. Ba 2016, arXiv 1607.06450.
Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps = 1e-5);
// Over the last axis: x / sqrt(mean of x^2 + eps) * gamma. Zhang & Sennrich 2019, arXiv 1910.07467.
Tensor rms_norm(const Tensor& x, const Tensor& gamma, double eps = 1e-6);
struct LayerNormOptions {
  std::vector<int> axes = {-1};   // the last axes of x
  Tensor gamma = {}, beta = {};   // of the shape of those axes; empty: 1 and 0
  double eps = 1e-5;
};
Tensor layer_norm(const Tensor& x, const LayerNormOptions& options = {});   // over several axes, or without a gain
Tensor rms_norm(const Tensor& x, double eps = 1e-6);                        // without a gain

enum class Reduction { mean, sum, none };
struct CrossEntropyOptions {
  Reduction reduction = Reduction::mean;   // mean: over the targets that are not ignored, as in PyTorch
  std::int64_t ignore_index = -100;        // targets with this value are ignored
  double label_smoothing = 0.0;            // in [0, 1]
  Tensor class_weights = {};               // [C]: of each class; the mean is then over the targets' weights, as in PyTorch
};
// In nats. logits [..., C], target int64 [...]. The mean with every target ignored is nan, as in PyTorch.
Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options = {});
struct NllOptions {
  Reduction reduction = Reduction::mean;
  std::int64_t ignore_index = -100;
  Tensor class_weights = {};
};
// -log_probabilities of the targets: cross_entropy after log_softmax.
Tensor nll_loss(const Tensor& log_probabilities, const Tensor& target, const NllOptions& options = {});
struct BceOptions {
  Reduction reduction = Reduction::mean;
  Tensor weight = {};            // of each element; broadcasts
  Tensor positive_weight = {};   // of the positive class; broadcasts
};
// Binary cross entropy of sigmoid(logits), target in [0, 1] of the same shape; finite for any finite logits.
Tensor bce_with_logits(const Tensor& logits, const Tensor& target, const BceOptions& options = {});
struct KlOptions {
  Reduction reduction = Reduction::mean;   // over all elements; divide the sum by the batch for the divergence itself
  bool log_target = false;                 // p is log p
};
// p (log p - log q), F.kl_div's order of arguments; 0 where p is 0.
Tensor kl_div(const Tensor& log_q, const Tensor& p, const KlOptions& options = {});
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
