// Ops that pick by integer index: gather and its adjoint scatter_add, embedding, one_hot.
#include <algorithm>
#include <cstring>

#include "framework/ops.hpp"
#include "framework/ops/common.hpp"

namespace surgeon {

using namespace ops;

namespace {

void require_index(const char* op, const Tensor& index) {
  require_value(op, index);
  require(index.dtype() == Dtype::int64, op, ": the index must be int64, not ", index.dtype());
}

// Every value of the index, held against the size it indexes: "... is out of range for an axis of size 3".
void require_in_range(const char* op, const Tensor& index, std::int64_t size, const char* before, const char* after) {
  const auto* values = data<std::int64_t>(index);
  for (std::int64_t i = 0; i < index.size(); ++i)
    require<std::out_of_range>(values[i] >= 0 && values[i] < size, op, ": index ", values[i], " at position ", i,
                               " is out of range for ", before, size, after);
}

void require_gather_shapes(const char* op, const Shape& x, std::size_t axis, const Shape& index) {
  bool fits = index.size() == x.size();
  for (std::size_t i = 0; fits && i < x.size(); ++i) fits = i == axis || index[i] <= x[i];
  require(fits, op, ": an index of shape ", index, " does not fit ", x, " along axis ", axis);
}

// Calls body(place in x, place in index) for each element of the index.
template <class Body>
void visit_gathered(const Shape& x, std::size_t axis, const Tensor& index, const Body& body) {
  const std::size_t rank = x.size();
  std::vector<std::int64_t> strides(rank, 1), at(rank, 0);
  for (std::size_t i = rank; i-- > 1;) strides[i - 1] = strides[i] * x[i];
  const auto* values = data<std::int64_t>(index);
  for (std::int64_t k = 0; k < index.size(); ++k) {
    std::int64_t place = values[k] * strides[axis];
    for (std::size_t i = 0; i < rank; ++i) place += i == axis ? 0 : at[i] * strides[i];
    body(place, k);
    for (std::size_t i = rank; i-- > 0 && ++at[i] == index.shape()[i];) at[i] = 0;
  }
}

// A 0-d tensor is gathered from as if it had one axis.
Shape at_least_1d(const Shape& shape) { return shape.empty() ? Shape{1} : shape; }

}  // namespace

Tensor gather(const Tensor& x, int axis, const Tensor& index) {
  require_value("gather", x);
  require_index("gather", index);
  const Shape from = at_least_1d(x.shape());
  const std::size_t along = std::size_t(checked_axis("gather", axis, int(from.size())));
  require_gather_shapes("gather", from, along, at_least_1d(index.shape()));
  require_in_range("gather", index, from[along], "an axis of size ", "");
  Tensor y = make(index.shape(), x.dtype());
  detail::visit_dtype(x.dtype(), [&]<class T>(T) {
    visit_gathered(from, along, reshape(index, at_least_1d(index.shape())),
                   [&](std::int64_t place, std::int64_t k) { fresh<T>(y)[k] = data<T>(x)[place]; });
  });
  return record("gather", {x, index}, y, [axis](const Ins& in, Out, Grad g) -> Grads {
    return {scatter_add(in[0].shape(), axis, in[1], g), Tensor()};
  });
}

Tensor scatter_add(const Shape& shape, int axis, const Tensor& index, const Tensor& source) {
  require_floating("scatter_add", source);
  require_index("scatter_add", index);
  require(source.shape() == index.shape(), "scatter_add: the source is ", source.shape(),
          ", the index ", index.shape(), "; their shapes must match");
  const Shape into = at_least_1d(shape);
  const std::size_t along = std::size_t(checked_axis("scatter_add", axis, int(into.size())));
  require_gather_shapes("scatter_add", into, along, at_least_1d(index.shape()));
  require_in_range("scatter_add", index, into[along], "an axis of size ", "");
  Tensor y = zeros(shape, source.dtype());
  detail::visit_floating(source.dtype(), [&]<class T>(T) {
    visit_gathered(into, along, reshape(index, at_least_1d(index.shape())),
                   [&](std::int64_t place, std::int64_t k) { fresh<T>(y)[place] += data<T>(source)[k]; });
  });
  return record("scatter_add", {index, source}, y,
                [axis](const Ins& in, Out, Grad g) -> Grads { return {Tensor(), gather(g, axis, in[0])}; });
}

namespace {

// Row index[i] of a [V, d] result grows by row i of g: embedding's adjoint.
Tensor embedding_adjoint(const Tensor& g, const Tensor& index, std::int64_t V) {
  const std::int64_t d = g.shape(-1);
  Tensor y = zeros({V, d}, g.dtype());
  detail::visit_floating(g.dtype(), [&]<class T>(T) {
    for (std::int64_t i = 0; i < index.size(); ++i) {
      const T* from = data<T>(g) + i * d;
      T* into = fresh<T>(y) + data<std::int64_t>(index)[i] * d;
      for (std::int64_t k = 0; k < d; ++k) into[k] += from[k];
    }
  });
  return record("embedding_adjoint", {g, index}, y,
                [](const Ins& in, Out, Grad h) -> Grads { return {embedding(h, in[1]), Tensor()}; });
}

}  // namespace

Tensor embedding(const Tensor& weight, const Tensor& index) {
  require_value("embedding", weight);
  require_index("embedding", index);
  require(weight.rank() == 2, "embedding: the weight must be [V, d], not ", weight.shape());
  require_in_range("embedding", index, weight.shape(0), "a vocabulary of ", "");
  const std::int64_t d = weight.shape(1), bytes = d * element_size(weight.dtype());
  Shape shape = index.shape();
  shape.push_back(d);
  Tensor y = make(std::move(shape), weight.dtype());
  const auto* from = static_cast<const std::byte*>(weight.node().data);
  for (std::int64_t i = 0; i < index.size() && bytes > 0; ++i)
    std::memcpy(static_cast<std::byte*>(y.node().data) + i * bytes, from + data<std::int64_t>(index)[i] * bytes,
                std::size_t(bytes));
  return record("embedding", {weight, index}, y, [](const Ins& in, Out, Grad g) -> Grads {
    return {embedding_adjoint(g, in[1], in[0].shape(0)), Tensor()};
  });
}

Tensor one_hot(const Tensor& index, std::int64_t classes, Dtype dtype) {
  require_index("one_hot", index);
  require(classes >= 0, "one_hot: the number of classes must not be negative, but is ", classes);
  require_in_range("one_hot", index, classes, "", " classes");
  Shape shape = index.shape();
  shape.push_back(classes);
  Tensor y = zeros(shape, dtype);
  detail::visit_dtype(dtype, [&]<class T>(T) {
    for (std::int64_t i = 0; i < index.size(); ++i) fresh<T>(y)[i * classes + data<std::int64_t>(index)[i]] = T(1);
  });
  return y;
}

}  // namespace surgeon
