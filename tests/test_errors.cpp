// Every bad call and the exact sentence it gets: the table is the specification of the messages.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "layers/layers.hpp"

using namespace surgeon;

namespace {

enum Kind { invalid, range, length };   // std::invalid_argument, std::out_of_range, std::length_error

struct Fault {
  std::function<void()> call;
  Kind kind;
  std::string message;
};

#define CALL(...) [=] { (void)(__VA_ARGS__); }

Tensor x(const Shape& shape) { return full(shape, 0.5); }                     // float32
Tensor d(const Shape& shape) { return full(shape, 0.5, Dtype::float64); }
Tensor i(const std::vector<std::int64_t>& values) { return tensor(values, {std::int64_t(values.size())}); }
Tensor b(const Shape& shape) { return full(shape, 1.0, Dtype::boolean); }

std::string thrown(const Fault& fault) {
  const char* wanted[] = {"std::invalid_argument: ", "std::out_of_range: ", "std::length_error: "};
  try {
    fault.call();
    return "nothing";
  } catch (const std::invalid_argument& error) { return wanted[invalid] + std::string(error.what());
  } catch (const std::out_of_range& error) { return wanted[range] + std::string(error.what());
  } catch (const std::length_error& error) { return wanted[length] + std::string(error.what());
  } catch (const std::exception& error) { return "another exception: " + std::string(error.what()); }
}

void check(const std::vector<Fault>& faults) {
  const char* wanted[] = {"std::invalid_argument: ", "std::out_of_range: ", "std::length_error: "};
  for (const Fault& fault : faults) CHECK(thrown(fault) == wanted[fault.kind] + fault.message);
}

const double not_a_number = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_SUITE("errors") {

TEST_CASE("errors: making, reading and assigning tensors") {
  Tensor y = x({2, 3});
  check({
      {CALL(tensor({1.0, 2.0}, {3})), invalid, "tensor: 2 values do not fill shape [3]"},
      {CALL(zeros({2, -1})), invalid, "shape [2, -1]: size -1 is negative"},
      {CALL(zeros({std::int64_t{1} << 33, std::int64_t{1} << 33})), length,
       "shape [8589934592, 8589934592]: more than 2^59 elements"},
      {CALL(arange(0.0, 5.0, 0.0)), invalid,
       "arange: from 0 to 5 in steps of 0: all must be finite, and the step not 0"},
      {CALL(arange(not_a_number)), invalid,
       "arange: from 0 to nan in steps of 1: all must be finite, and the step not 0"},
      {CALL(eye(-2)), invalid, "shape [-2, -2]: size -2 is negative"},
      {CALL(y.item()), invalid, "item: [2, 3] has 6 elements, not 1"},
      {CALL(y.at({0})), range, "at: 1 indices given, but [2, 3] has 2 axes"},
      {CALL(y.at({0, 3})), range, "at: index 3 is out of range for axis 1 of [2, 3]"},
      {CALL(y.at({-3, 0})), range, "at: index -3 is out of range for axis 0 of [2, 3]"},
      {CALL(y.shape(2)), range, "shape: axis 2 is out of range for a tensor of rank 2"},
      {CALL(y.values<double>()), invalid, "values: asked for float64, but the tensor is float32"},
      {[=]() mutable { y.assign(x({3, 2})); }, invalid, "assign: cannot assign [3, 2] to a tensor of shape [2, 3]"},
      {[=]() mutable { y.assign(d({2, 3})); }, invalid, "assign: cannot assign float64 to a float32 tensor"},
      {[=]() mutable { y.assign(Tensor()); }, invalid, "assign: an empty tensor has no values"},
      {CALL(Tensor().item()), invalid, "item: an empty tensor has no values"},
      {CALL(Tensor().dtype()), invalid, "dtype: an empty tensor has no values"},
      {CALL(Tensor().detach()), invalid, "detach: an empty tensor has no values"},
      {CALL(Tensor().to(Dtype::float32)), invalid, "to: an empty tensor has no values"},
  });
}

TEST_CASE("errors: element by element") {
  check({
      {CALL(x({2, 3}) + x({2, 4})), invalid, "add: [2, 3] and [2, 4]: sizes 3 and 4 do not broadcast"},
      {CALL(x({2, 3}) - x({2})), invalid, "subtract: [2, 3] and [2]: sizes 3 and 2 do not broadcast"},
      {CALL(x({0, 3}) * x({2, 3})), invalid, "multiply: [0, 3] and [2, 3]: sizes 0 and 2 do not broadcast"},
      {CALL(x({2}) + d({2})), invalid, "add: float32 with float64 (dtypes never promote: use .to)"},
      {CALL(d({2}) / x({2})), invalid, "divide: float64 with float32 (dtypes never promote: use .to)"},
      {CALL(i({1}) / i({2})), invalid, "divide: needs float32 or float64, not int64"},
      {CALL(i({1}) + 0.5), invalid, "add: an int64 tensor cannot hold 0.5"},
      {CALL(b({2}) + b({2})), invalid, "add: needs numbers, not boolean (convert it with .to)"},
      {CALL(-b({2})), invalid, "negate: needs numbers, not boolean (convert it with .to)"},
      {CALL(x({2}) + Tensor()), invalid, "add: an empty tensor has no values"},
      {CALL(Tensor() * 2.0), invalid, "multiply: an empty tensor has no values"},
      {CALL(exp(i({1}))), invalid, "exp: needs float32 or float64, not int64"},
      {CALL(log(b({1}))), invalid, "log: needs float32 or float64, not boolean"},
      {CALL(pow(i({1}), 2.0)), invalid, "pow: needs float32 or float64, not int64"},
      {CALL(gelu(i({1}))), invalid, "gelu: needs float32 or float64, not int64"},
      {CALL(silu(i({1}))), invalid, "silu: needs float32 or float64, not int64"},
      {CALL(softplus(Tensor())), invalid, "softplus: an empty tensor has no values"},
      {CALL(maximum(x({2}), x({3}))), invalid, "maximum: [2] and [3]: sizes 2 and 3 do not broadcast"},
      {CALL(minimum(x({2}), i({1}))), invalid, "minimum: float32 with int64 (dtypes never promote: use .to)"},
      {CALL(clamp(x({2}), 2.0, 1.0)), invalid, "clamp: low is 2 and high is 1; low must be at most high"},
      {CALL(clamp(x({2}), not_a_number, 1.0)), invalid, "clamp: low is nan and high is 1; low must be at most high"},
      {CALL(x({2}) == d({2})), invalid, "==: float32 with float64 (dtypes never promote: use .to)"},
      {CALL(x({2}) < x({3})), invalid, "<: [2] and [3]: sizes 2 and 3 do not broadcast"},
      {CALL(!x({2})), invalid, "!: needs a boolean tensor, not float32"},
      {CALL(where(x({2}), x({2}), x({2}))), invalid, "where: the condition must be boolean, not float32"},
      {CALL(where(b({2}), x({2}), d({2}))), invalid, "where: float32 with float64 (dtypes never promote: use .to)"},
      {CALL(where(b({3}), x({2}), x({2}))), invalid, "where: [2] and [3]: sizes 2 and 3 do not broadcast"},
      {CALL(masked_fill(x({2, 3}), b({2}), 0.0)), invalid,
       "masked_fill: a mask of shape [2] does not broadcast to [2, 3]"},
      {CALL(masked_fill(x({3}), b({2, 3}), 0.0)), invalid,
       "masked_fill: a mask of shape [2, 3] does not broadcast to [3]"},
      {CALL(masked_fill(x({2}), tensor({0.f, float(not_a_number)}, {2}), 0.0)), invalid,
       "masked_fill: the mask holds nan, not 0 or 1"},
      {CALL(masked_fill(x({2}), tensor({0.f, 0.5f}, {2}), 0.0)), invalid,
       "masked_fill: the mask holds 0.5, not 0 or 1"},
      {CALL(masked_fill(x({2}), i({0, 1}), 0.0)), invalid,
       "masked_fill: the mask must be boolean, or float with 0 and 1, not int64"},
  });
}

TEST_CASE("errors: dropout") {
  const auto drop = [](double p) { return [p] { Rng rng(1); (void)dropout(x({2}), p, rng); }; };
  check({
      {drop(-0.1), invalid, "dropout: p must be between 0 and 1, not -0.1"},
      {drop(1.1), invalid, "dropout: p must be between 0 and 1, not 1.1"},
      {drop(not_a_number), invalid, "dropout: p must be between 0 and 1, not nan"},
      {CALL(Rng(1).below(0)), invalid, "Rng::below: n must be at least 1, not 0"},
  });
}

TEST_CASE("errors: reductions") {
  check({
      {CALL(sum(x({2, 3}), 9)), range, "sum: axis 9 is out of range for a tensor of rank 2"},
      {CALL(sum(x({2, 3}), {0, 0})), invalid, "sum: axis 0 is named twice"},
      {CALL(sum(x({2, 3}), {1, -1})), invalid, "sum: axis -1 is named twice"},
      {CALL(mean(x({2, 3}), -3)), range, "mean: axis -3 is out of range for a tensor of rank 2"},
      {CALL(max(x({2, 3}), 2)), range, "max: axis 2 is out of range for a tensor of rank 2"},
      {CALL(max(x({2, 0}), 1)), invalid, "max: axis 1 of [2, 0] has size 0"},
      {CALL(min(x({0}))), invalid, "min: axis 0 of [0] has size 0"},
      {CALL(mean(x({0, 3}), 0)), invalid, "mean: axis 0 of [0, 3] has size 0"},
      {CALL(mean(i({1, 2}))), invalid, "mean: needs float32 or float64, not int64"},
      {CALL(max(b({2}))), invalid, "max: needs numbers, not boolean (convert it with .to)"},
      {CALL(var(x({0}))), invalid, "var: axis 0 of [0] has size 0"},
      {CALL(var(x({3}), {.correction = -1})), invalid, "var: correction -1 is negative"},
      {CALL(var(i({1, 2}))), invalid, "var: needs float32 or float64, not int64"},
      {CALL(argmax(x({2, 0}), 1)), invalid, "argmax: axis 1 of [2, 0] has size 0"},
      {CALL(argmax(x({2}), 1)), range, "argmax: axis 1 is out of range for a tensor of rank 1"},
      {CALL(cumsum(x({2}), 1)), range, "cumsum: axis 1 is out of range for a tensor of rank 1"},
      {CALL(cumsum(b({2}), 0)), invalid, "cumsum: needs numbers, not boolean (convert it with .to)"},
      {CALL(softmax(x({3, 0}))), invalid, "softmax: axis -1 of [3, 0] has size 0"},
      {CALL(softmax(x({0, 3}), 0)), invalid, "softmax: axis 0 of [0, 3] has size 0"},
      {CALL(softmax(x({2}), 1)), range, "softmax: axis 1 is out of range for a tensor of rank 1"},
      {CALL(softmax(i({1, 2}))), invalid, "softmax: needs float32 or float64, not int64"},
      {CALL(log_softmax(x({3, 0}))), invalid, "log_softmax: axis -1 of [3, 0] has size 0"},
      {CALL(logsumexp(x({0}))), invalid, "logsumexp: axis 0 of [0] has size 0"},
      {CALL(logsumexp(x({2}), 3)), range, "logsumexp: axis 3 is out of range for a tensor of rank 1"},
      {CALL(sum(Tensor())), invalid, "sum: an empty tensor has no values"},
      {CALL(softmax(Tensor())), invalid, "softmax: an empty tensor has no values"},
  });
}

TEST_CASE("errors: shape ops") {
  check({
      {CALL(reshape(x({2, 12}), {5, 5})), invalid, "reshape: [2, 12] to [5, 5]: 24 elements cannot become 25"},
      {CALL(reshape(x({24}), {-1, -1})), invalid, "reshape: [24] to [-1, -1]: only one size may be -1"},
      {CALL(reshape(x({24}), {-2, 12})), invalid, "reshape: [24] to [-2, 12]: size -2 is negative"},
      {CALL(reshape(x({24}), {-1, 5})), invalid, "reshape: [24] to [-1, 5]: 24 elements are not divisible by 5"},
      {CALL(reshape(x({0}), {-1, 0})), invalid, "reshape: [0] to [-1, 0]: 0 elements are not divisible by 0"},
      {CALL(permute(x({2, 3}), {0, 0})), invalid, "permute: axis 0 is named twice"},
      {CALL(permute(x({2, 3}), {0})), invalid, "permute: 1 axes are named, but [2, 3] has 2"},
      {CALL(permute(x({2, 3}), {0, 2})), range, "permute: axis 2 is out of range for a tensor of rank 2"},
      {CALL(transpose(x({2, 3}), 0, 2)), range, "transpose: axis 2 is out of range for a tensor of rank 2"},
      {CALL(transpose(x({}), 0, 0)), range, "transpose: axis 0 is out of range for a tensor of rank 0"},
      {CALL(slice(x({4}), 0, 0, 2, 0)), invalid, "slice: the step must not be 0"},
      {CALL(slice(x({4}), 1, 0)), range, "slice: axis 1 is out of range for a tensor of rank 1"},
      {CALL(concat({}, 0)), invalid, "concat: needs at least one tensor"},
      {CALL(concat({x({2, 3}), x({2, 4})}, 0)), invalid, "concat: [2, 3] and [2, 4] differ in more than axis 0"},
      {CALL(concat({x({2}), x({2, 1})}, 0)), invalid, "concat: [2] and [2, 1] differ in more than axis 0"},
      {CALL(concat({x({2}), d({2})}, 0)), invalid, "concat: float32 with float64 (dtypes never promote: use .to)"},
      {CALL(concat({x({}), x({})}, 0)), range, "concat: axis 0 is out of range for a tensor of rank 0"},
      {CALL(concat({x({2}), Tensor()}, 0)), invalid, "concat: an empty tensor has no values"},
      {CALL(stack({}, 0)), invalid, "stack: needs at least one tensor"},
      {CALL(stack({x({2}), x({3})}, 0)), invalid, "stack: shapes [2] and [3] differ"},
      {CALL(stack({x({2}), x({2})}, 2)), range, "stack: axis 2 is out of range for a tensor of rank 2"},
      {CALL(broadcast_to(x({3}), {3, 2})), invalid, "broadcast_to: [3] does not broadcast to [3, 2]"},
      {CALL(broadcast_to(x({2, 3}), {3})), invalid, "broadcast_to: [2, 3] does not broadcast to [3]"},
      {CALL(tril(x({3}))), invalid, "tril: needs at least two axes, not [3]"},
      {CALL(triu(x({}))), invalid, "triu: needs at least two axes, not []"},
  });
}

TEST_CASE("errors: indices") {
  const Tensor weight = x({4, 3});
  check({
      {CALL(embedding(weight, i({0, -1}))), range,
       "embedding: index -1 at position 1 is out of range for a vocabulary of 4"},
      {CALL(embedding(weight, i({0, 1, 4}))), range,
       "embedding: index 4 at position 2 is out of range for a vocabulary of 4"},
      {CALL(embedding(x({4}), i({0}))), invalid, "embedding: the weight must be [V, d], not [4]"},
      {CALL(embedding(weight, x({2}))), invalid, "embedding: the index must be int64, not float32"},
      {CALL(gather(weight, 1, tensor({0, 3}, {2, 1}))), range,
       "gather: index 3 at position 1 is out of range for an axis of size 3"},
      {CALL(gather(weight, 0, i({0}))), invalid, "gather: an index of shape [1] does not fit [4, 3] along axis 0"},
      {CALL(gather(weight, 0, zeros({1, 4}, Dtype::int64))), invalid,
       "gather: an index of shape [1, 4] does not fit [4, 3] along axis 0"},
      {CALL(gather(weight, 2, i({0}))), range, "gather: axis 2 is out of range for a tensor of rank 2"},
      {CALL(gather(weight, 0, x({1, 3}))), invalid, "gather: the index must be int64, not float32"},
      {CALL(scatter_add({3}, 0, i({5}), x({1}))), range,
       "scatter_add: index 5 at position 0 is out of range for an axis of size 3"},
      {CALL(scatter_add({3}, 0, i({1}), x({2}))), invalid,
       "scatter_add: the source is [2], the index [1]; their shapes must match"},
      {CALL(scatter_add({3}, 0, i({1}), i({2}))), invalid, "scatter_add: needs float32 or float64, not int64"},
      {CALL(one_hot(i({0, 3}), 3)), range, "one_hot: index 3 at position 1 is out of range for 3 classes"},
      {CALL(one_hot(i({0}), -1)), invalid, "one_hot: the number of classes must not be negative, but is -1"},
      {CALL(one_hot(x({2}), 3)), invalid, "one_hot: the index must be int64, not float32"},
  });
}

TEST_CASE("errors: products") {
  check({
      {CALL(matmul(x({2, 3}), x({4, 5}))), invalid, "matmul: [2, 3] x [4, 5]: inner sizes 3 and 4 differ"},
      {CALL(matmul(x({2, 3}), x({4, 5}), {.transpose_b = true})), invalid,
       "matmul: [2, 3] x [4, 5]^T: inner sizes 3 and 5 differ"},
      {CALL(matmul(x({2, 3}), x({4, 5}), {.transpose_a = true})), invalid,
       "matmul: [2, 3]^T x [4, 5]: inner sizes 2 and 4 differ"},
      {CALL(matmul(x({2, 3, 4}), x({3, 4, 5}))), invalid,
       "matmul: [2, 3, 4] x [3, 4, 5]: batch sizes 2 and 3 do not broadcast"},
      {CALL(matmul(x({}), x({3}))), invalid, "matmul: [] x [3]: a scalar has no rows (use *)"},
      {CALL(matmul(x({3}), x({}))), invalid, "matmul: [3] x []: a scalar has no rows (use *)"},
      {CALL(matmul(x({3}), x({4}))), invalid, "matmul: [3] x [4]: inner sizes 3 and 4 differ"},
      {CALL(matmul(x({3}), x({3, 2}), {.transpose_a = true})), invalid,
       "matmul: [3] x [3, 2]: a 1-D operand cannot be transposed"},
      {CALL(matmul(x({2, 2}), d({2, 2}))), invalid, "matmul: float32 with float64 (dtypes never promote: use .to)"},
      {CALL(matmul(i({1}), i({1}))), invalid, "matmul: needs float32 or float64, not int64"},
      {CALL(matmul(x({2, 2}), Tensor())), invalid, "matmul: an empty tensor has no values"},
      {CALL(linear(x({2, 3}), x({4, 5}))), invalid,
       "linear: x [2, 3] with weight [4, 5]: the weight must be [out, in], and the last axis of x must have size in"},
      {CALL(linear(x({2, 3}), x({4, 3}), x({3}))), invalid,
       "linear: bias [3] with weight [4, 3]: the bias must be [4]"},
      {CALL(linear(x({2, 3}), d({4, 3}))), invalid, "linear: float32 x with float64 weight"},
      {CALL(linear(x({2, 3}), x({4, 3}), d({4}))), invalid, "linear: float32 x with float32 weight and float64 bias"},
      {CALL(linear(x({}), x({4, 3}))), invalid,
       "linear: x [] with weight [4, 3]: the weight must be [out, in], and the last axis of x must have size in"},
  });
}

TEST_CASE("errors: normalisations and losses") {
  const Tensor logits = x({2, 3});
  check({
      {CALL(layer_norm(x({2, 3}), x({3}), x({3}), 0.0)), invalid, "layer_norm: eps must be positive, not 0"},
      {CALL(layer_norm(x({2, 3}), x({3}), x({3}), -1.0)), invalid, "layer_norm: eps must be positive, not -1"},
      {CALL(layer_norm(x({2, 3}), x({3}), x({3}), not_a_number)), invalid, "layer_norm: eps must be positive, not nan"},
      {CALL(layer_norm(x({2, 3}), x({4}), x({3}))), invalid,
       "layer_norm: for x of shape [2, 3], gamma must have shape [3], not [4]"},
      {CALL(layer_norm(x({2, 3}), x({3}), x({2, 3}))), invalid,
       "layer_norm: for x of shape [2, 3], beta must have shape [3], not [2, 3]"},
      {CALL(layer_norm(x({2, 3}), d({3}), x({3}))), invalid, "layer_norm: gamma is float64, but x is float32"},
      {CALL(layer_norm(x({2, 0}), x({0}), x({0}))), invalid,
       "layer_norm: the last axis of [2, 0] has size 0"},
      {CALL(layer_norm(x({}), x({}), x({}))), invalid, "layer_norm: x needs at least one axis"},
      {CALL(rms_norm(x({2, 3}), x({3}), 0.0)), invalid, "rms_norm: eps must be positive, not 0"},
      {CALL(rms_norm(i({1}), x({1}))), invalid, "rms_norm: needs float32 or float64, not int64"},
      {CALL(rms_norm(x({2, 3}), Tensor())), invalid, "rms_norm: an empty tensor has no values"},
      {CALL(cross_entropy(logits, i({0}))), invalid,
       "cross_entropy: targets of shape [1] do not fit logits of shape [2, 3]"},
      {CALL(cross_entropy(logits, x({2}))), invalid, "cross_entropy: targets must be int64, not float32"},
      {CALL(cross_entropy(x({2, 0}), i({0, 0}))), invalid, "cross_entropy: logits of shape [2, 0] have no classes"},
      {CALL(cross_entropy(x({}), i({0}))), invalid,
       "cross_entropy: targets of shape [1] do not fit logits of shape []"},
      {CALL(cross_entropy(logits, i({0, 1}), {.label_smoothing = 1.5})), invalid,
       "cross_entropy: label_smoothing must be between 0 and 1, not 1.5"},
      {CALL(mse_loss(x({2}), d({2}))), invalid, "mse_loss: target is float64, but x is float32"},
      {CALL(mse_loss(i({1}), i({1}))), invalid, "mse_loss: needs float32 or float64, not int64"},
      {CALL(cross_entropy(logits, i({0, 3}))), range,
       "cross_entropy: target 3 at position 1 is out of range for 3 classes"},
      {CALL(cross_entropy(logits, i({-1, 0}))), range,
       "cross_entropy: target -1 at position 0 is out of range for 3 classes"},
  });
}

TEST_CASE("errors: attention") {
  const Tensor Q = x({2, 3, 4}), K = x({2, 5, 4}), V = x({2, 5, 6});
  Rng rng(1);
  check({
      {CALL(attention(x({2, 3, 0}), x({2, 5, 0}), V)), invalid,
       "attention: Q [2, 3, 0], K [2, 5, 0], V [2, 5, 6]: d_k is 0"},
      {CALL(attention(Q, x({2, 5, 3}), V)), invalid,
       "attention: Q [2, 3, 4], K [2, 5, 3], V [2, 5, 6]: d_k 4 of Q and 3 of K differ"},
      {CALL(attention(Q, x({2, 4, 4}), V)), invalid,
       "attention: Q [2, 3, 4], K [2, 4, 4], V [2, 5, 6]: 4 keys but 5 values"},
      {CALL(attention(Q, K, V, {.mask = b({3, 4})})), invalid,
       "attention: a mask [3, 4] does not fit scores [2, 3, 5]"},
      {CALL(attention(Q, K, V, {.mask = full({3, 5}, not_a_number)})), invalid,
       "attention: the mask holds nan, not 0 or 1"},
      {CALL(attention(Q, K, V, {.mask = full({3, 5}, 0.5)})), invalid,
       "attention: the mask holds 0.5, not 0 or 1"},
      {CALL(attention(Q, K, V, {.scale = not_a_number})), invalid, "attention: scale = nan must be finite"},
      {CALL(attention(Q, d({2, 5, 4}), V)), invalid,
       "attention: Q, K and V are float32, float64 and float32: they must be all float32 or all float64"},
      {[&] { MultiHeadAttention(8, 0, rng); }, invalid,
       "MultiHeadAttention: d_model = 8, num_heads = 0: both must be at least 1"},
      {[&] { MultiHeadAttention(8, -1, rng); }, invalid,
       "MultiHeadAttention: d_model = 8, num_heads = -1: both must be at least 1"},
      {[&] { MultiHeadAttention(8, 3, rng); }, invalid,
       "MultiHeadAttention: d_model = 8 cannot be divided into 3 heads"},
      {[&] { MultiHeadAttention(8, 2, rng)(x({2, 3, 7})); }, invalid,
       "MultiHeadAttention: x [2, 3, 7] must be [batch, T, 8]"},
  });
}

// ---- Asking for gradients ------------------------------------------------------------------------------------------

namespace {

Tensor with_rule(const Tensor& in, Grads (*rule)(const Ins&, Out, Grad)) {
  return record("my_op", {in}, (in * 1.0).detach(), rule);
}

}  // namespace

TEST_CASE("errors: asking for gradients") {
  const Tensor a = x({2, 3}), other = x({2}), y = a * a, scalar = sum(y);
  check({
      {CALL(grad(y, {a})), invalid, "grad: y has shape [2, 3], not one element: pass a .cotangent"},
      {CALL(grad(y, {a}, {.cotangent = x({3, 2})})), invalid,
       "grad: the cotangent has shape [3, 2], but y has shape [2, 3]"},
      {CALL(grad(y, {a}, {.cotangent = d({2, 3})})), invalid, "grad: the cotangent is float64, but y is float32"},
      {CALL(grad(scalar, {a, other})), invalid,
       "grad: y does not depend on tensor 1 of shape [2] (set .allow_unused to get zeros)"},
      {CALL(grad(a, {scalar}, {.cotangent = a})), invalid,
       "grad: y does not depend on tensor 0 of shape [] (set .allow_unused to get zeros)"},
      {CALL(grad(sum(i({1, 2})), {a})), invalid, "grad: y must be float32 or float64, not int64"},
      {CALL(grad(Tensor(), {a})), invalid, "grad: an empty tensor has no values"},
      {CALL(grad(scalar, {Tensor()})), invalid, "grad: an empty tensor has no values"},
      {CALL(vjp([](const auto& in) { return in[0]; }, {i({1})}, Tensor())), invalid,
       "vjp: input 0 must be float32 or float64, not int64"},
      {CALL(jvp([](const auto& in) { return in[0]; }, {a}, {})), invalid, "jvp: 0 tangents for 1 inputs"},
      {CALL(jvp([](const auto& in) { return in[0]; }, {a}, {other})), invalid,
       "jvp: tangent 0 is float32 [2], but its input is float32 [2, 3]"},
      {CALL(hvp([](const auto& in) { return in[0]; }, {a}, {a})), invalid,
       "hvp: the function's value must have one element, but has shape [2, 3]"},
      {CALL(hvp([](const auto& in) { return sum(in[0]); }, {a}, {d({2, 3})})), invalid,
       "hvp: vector 0 is float64 [2, 3], but its input is float32 [2, 3]"},
      {CALL(hessian([](const Tensor& z) { return z; }, a)), invalid,
       "hessian: the function's value must have one element, but has shape [2, 3]"},
      {CALL(jacobian([](const Tensor& z) { return z > 0.0; }, a)), invalid,
       "jacobian: the function's value must be float32 or float64, not boolean"},
      {CALL(gradcheck([](const auto& in) { return in[0]; }, {a})), invalid,
       "gradcheck: input 0 must be float64, not float32: finite differences need the digits"},
      {CALL(gradcheck([](const auto& in) { return in[0]; }, {})), invalid, "gradcheck: needs at least one input"},
      {CALL(gradcheck([](const auto& in) { return in[0]; }, {d({2})}, {.order = 0})), invalid,
       "gradcheck: order must be at least 1, not 0"},
      {CALL(gradcheck([](const auto& in) { return in[0]; }, {d({2})}, {.eps = 0.0})), invalid,
       "gradcheck: eps must be positive, not 0"},
  });
}

TEST_CASE("errors: rules that give the wrong thing are named") {
  const Tensor a = x({2, 3});
  check({
      {CALL(grad(sum(with_rule(a, [](const Ins&, Out, Grad) -> Grads { return {}; })), {a})), invalid,
       "grad: my_op: its rule returned 0 gradients for 1 inputs"},
      {CALL(grad(sum(with_rule(a, [](const Ins&, Out, Grad g) -> Grads { return {g, g}; })), {a})), invalid,
       "grad: my_op: its rule returned 2 gradients for 1 inputs"},
      {CALL(grad(sum(with_rule(a, [](const Ins&, Out, Grad g) -> Grads { return {slice(g, 1, 0, 2)}; })), {a})),
       invalid, "grad: my_op: its rule returned a gradient of shape [2, 2] for input 0 of shape [2, 3]"},
      {CALL(grad(sum(with_rule(a, [](const Ins&, Out, Grad g) -> Grads { return {sum(g)}; })), {a})), invalid,
       "grad: my_op: its rule returned a gradient of shape [] for input 0 of shape [2, 3]"},
      {CALL(grad(sum(with_rule(a, [](const Ins&, Out, Grad g) -> Grads { return {g.to(Dtype::float64)}; })), {a})),
       invalid, "grad: my_op: its rule returned a float64 gradient for input 0, which is float32"},
      {CALL(record("my_op", {a}, a, [](const Ins&, Out, Grad g) -> Grads { return {g}; })), invalid,
       "record: my_op: the value is one of the inputs"},
      {CALL(record("my_op", {a}, a * 2.0, [](const Ins&, Out, Grad g) -> Grads { return {g}; })), invalid,
       "record: my_op: the value was made by another op, multiply"},
      {CALL(record("my_op", {Tensor()}, x({2}), [](const Ins&, Out, Grad g) -> Grads { return {g}; })), invalid,
       "my_op: an empty tensor has no values"},
  });
}

TEST_CASE("errors: an op without a second derivative says so by name") {
  const Tensor a = x({3});
  const auto op = [](const Tensor& in) {
    return fused("one_way", {in}, (in * in).detach(),
                 [](const Ins& i, Out, Grad g) -> Grads { return {2.0 * g * i[0]}; }, Reference());
  };
  CHECK(grad(sum(op(a)), {a})[0].at({0}) == 1.0);
  check({{CALL(grad(sum(op(a)), {a}, {.create_graph = true})), invalid,
          "grad: one_way has no second derivative, which create_graph asks for"}});
}

TEST_CASE("errors: a value assigned to between forward and backward is refused, and the op named") {
  Tensor a = x({2}), w = x({2});
  const Tensor y = sum(exp(a) * w);
  const Tensor fine = sum(a + 1.0);
  w.assign(x({2}));
  check({{CALL(grad(y, {w})), invalid, "grad: multiply: a value it saved has since been changed by assign()"}});
  CHECK_NOTHROW(grad(fine, {a}));
  Tensor out = exp(a);
  const Tensor z = sum(out);
  out.assign(a);
  check({{CALL(grad(z, {a})), invalid, "grad: sum: a value it saved has since been changed by assign()"}});
}

// ---- After a throw everything is as it was -------------------------------------------------------------------------

TEST_CASE("errors: an exception in the middle of forward leaves recording and the inputs as they were") {
  const Tensor a = d({3});
  try {
    const NoRecord pause;
    const NoRecord twice;
    throw std::runtime_error("mine");
  } catch (const std::runtime_error&) {
  }
  CHECK(recording());
  const Function f = [](const auto& in) -> Tensor {
    (void)(in[0] * in[0]);
    throw std::runtime_error("mine");
  };
  CHECK_THROWS_WITH_AS(vjp(f, {a}, a), "mine", std::runtime_error);
  CHECK(recording());
  CHECK(grad(sum(a * a), {a})[0].at({0}) == 1.0);
}

TEST_CASE("errors: an exception in the middle of backward passes through, and the same graph still works") {
  const Tensor a = d({3});
  static bool fail = true;
  const Tensor y = sum(exp(record("moody", {a}, (a * 2.0).detach(), [](const Ins&, Out, Grad g) -> Grads {
    if (fail) throw std::runtime_error("mine");
    return {g * 2.0};
  })));
  CHECK_THROWS_WITH_AS(grad(y, {a}), "mine", std::runtime_error);
  CHECK_THROWS_WITH_AS(grad(y, {a}, {.create_graph = true}), "mine", std::runtime_error);
  CHECK(recording());
  fail = false;
  CHECK(grad(y, {a})[0].at({1}) == doctest::Approx(2.0 * std::exp(1.0)));
}

TEST_CASE("errors: a refused assign changes nothing, not even the version") {
  Tensor a = x({2});
  const Tensor y = sum(a * a);
  CHECK_THROWS_AS(a.assign(x({3})), std::invalid_argument);
  CHECK(a.version() == 0);
  CHECK(a.at({0}) == 0.5);
  CHECK_NOTHROW(grad(y, {a}));
}

}  // TEST_SUITE
