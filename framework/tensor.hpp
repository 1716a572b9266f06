// Tensor: a value (dtype, shape, contiguous row-major numbers) and, if an op made it, its place in the graph.
// Here tensors are made, inspected, read and assigned; arithmetic is in ops.hpp, gradients in autograd.hpp.
#pragma once

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "framework/shape.hpp"

namespace surgeon {

namespace detail {
struct Node;
// The part of a node that every handle reads; detail/node.hpp has the rest.
struct Counted {
  std::atomic<std::uint32_t> references{1};
  Dtype dtype = Dtype::float32;
  std::int64_t size = 0;
  std::uint64_t id = 0;        // grows with every tensor made, so that sorting by id gives a topological order
  std::uint64_t version = 0;
  void* data = nullptr;
  Shape shape;
};
void destroy(Counted* node) noexcept;
inline const Shape scalar_shape;
[[noreturn]] void refuse_empty(const char* op);
[[noreturn]] void refuse_dtype(const char* op, Dtype dtype);
}  // namespace detail

inline constexpr std::int64_t to_end = std::numeric_limits<std::int64_t>::max();
inline constexpr struct Ellipsis {} ellipsis{};   // all axes that are not named

// What x(...) takes of one axis, as between NumPy's brackets: a place, which drops the axis; {start, stop} or
// {start, stop, step}, which keep it; {} for the whole of it. Negative counts from the end.
struct Index {
  enum class Kind : std::uint8_t { places, place, ellipsis };
  Index() = default;
  Index(std::int64_t place) : start(place), kind(Kind::place) {}
  Index(std::int64_t start_, std::int64_t stop_, std::int64_t step_ = 1) : start(start_), stop(stop_), step(step_) {}
  Index(Ellipsis) : kind(Kind::ellipsis) {}
  std::int64_t start = 0, stop = to_end, step = 1;
  Kind kind = Kind::places;
};

class Tensor;
namespace detail { Tensor indexed(const Tensor& x, std::span<const Index> parts); }

// A handle: copying it copies a pointer. Only assign() changes its numbers.
class Tensor {
 public:
  Tensor() noexcept = default;   // empty: it has no dtype and no numbers
  Tensor(const Tensor& other) noexcept : node_(other.node_) { retain(); }
  Tensor(Tensor&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
  Tensor& operator=(Tensor other) noexcept { std::swap(node_, other.node_); return *this; }
  ~Tensor() { release(); }

  bool empty() const noexcept { return node_ == nullptr; }
  bool defined() const noexcept { return node_ != nullptr; }

  const Shape& shape() const noexcept { return node_ ? node_->shape : detail::scalar_shape; }   // {} when empty
  std::int64_t shape(int axis) const;               // a negative axis counts from the end; std::out_of_range
  int rank() const noexcept { return int(shape().size()); }
  std::int64_t size() const noexcept { return node_ ? node_->size : 0; }   // number of elements; 0 when empty
  Dtype dtype() const {
    if (!node_) [[unlikely]] detail::refuse_empty("dtype");
    return node_->dtype;
  }

  double item() const;                                            // of one element, else std::invalid_argument
  double at(std::initializer_list<std::int64_t> index) const;     // negative ones count from the end; std::out_of_range
  // The numbers in row-major order. T must be the type of the dtype: float, double, std::int64_t or bool.
  template <class T> std::span<const T> values() const;

  // x[i]: place i along the first axis. x(0, {1, 3}, {}) is NumPy's x[0, 1:3, :]; x(ellipsis, -1) its x[..., -1].
  // Differentiable; std::out_of_range for a place that is not there.
  Tensor operator[](std::int64_t place) const;
  Tensor operator()(Index a) const;
  Tensor operator()(Index a, Index b) const;
  Tensor operator()(Index a, Index b, Index c) const;
  Tensor operator()(Index a, Index b, Index c, Index d) const;

  // Overwrites the numbers; shape and dtype must match. A graph that saved the old numbers refuses to be
  // differentiated; tensors that shared them (through reshape or detach) keep the old ones.
  void assign(const Tensor& value);
  std::uint64_t version() const noexcept { return node_ ? node_->version : 0; }   // how often assign() was called

  Tensor to(Dtype dtype) const;   // converts; differentiable between float32 and float64
  Tensor detach() const;          // the same numbers, not part of any graph

  bool same(const Tensor& other) const noexcept { return node_ == other.node_; }   // the same tensor, not equal numbers

  explicit Tensor(detail::Counted* adopted) noexcept : node_(adopted) {}
  detail::Node& node() const noexcept;

 private:
  void retain() const noexcept {
    if (node_) node_->references.fetch_add(1, std::memory_order_relaxed);
  }
  void release() noexcept {
    if (!node_) return;
    // A sole owner needs no atomic subtraction: nobody else can copy the handle meanwhile.
    if (node_->references.load(std::memory_order_acquire) == 1 ||
        node_->references.fetch_sub(1, std::memory_order_acq_rel) == 1)
      detail::destroy(node_);
  }
  detail::Counted* node_ = nullptr;
};

// Refuses an empty tensor, naming the op that it was passed to.
inline void require_value(const char* op, const Tensor& x) {
  if (x.empty()) [[unlikely]] detail::refuse_empty(op);
}
// Refuses all but float32 and float64.
inline void require_floating(const char* op, const Tensor& x) {
  require_value(op, x);
  if (!is_floating(x.dtype())) [[unlikely]] detail::refuse_dtype(op, x.dtype());
}

// From numbers in row-major order; std::invalid_argument when they do not fill the shape.
Tensor tensor(const std::vector<float>& values, const Shape& shape);
Tensor tensor(const std::vector<double>& values, const Shape& shape);
Tensor tensor(const std::vector<std::int64_t>& values, const Shape& shape);
Tensor tensor(const std::vector<bool>& values, const Shape& shape);
Tensor tensor(const std::vector<unsigned char>& values, const Shape& shape);   // boolean: all but 0 are true

// tensor({1.0, 2.0}, {2}) is float64, tensor({1.f, 2.f}, {2}) float32, tensor({1, 2}, {2}) int64.
template <class T> Tensor tensor(std::initializer_list<T> values, const Shape& shape) {
  using Stored = std::conditional_t<std::is_same_v<T, bool> || std::is_floating_point_v<T>, T, std::int64_t>;
  return tensor(std::vector<Stored>(values.begin(), values.end()), shape);
}

// Nested lists have their shape in them: tensor({1.0, 2.0}), tensor({{1, 2}, {3, 4}}), and one level deeper.
// std::invalid_argument when the inner lists differ in length.
template <class T> Tensor tensor(std::initializer_list<T> values) {
  return tensor(values, {std::int64_t(values.size())});
}
namespace detail { Tensor stacked(const std::vector<Tensor>& rows); }
template <class T> Tensor tensor(std::initializer_list<std::initializer_list<T>> rows) {
  std::vector<Tensor> parts;
  for (const auto& row : rows) parts.push_back(tensor(row));
  return detail::stacked(parts);
}
template <class T> Tensor tensor(std::initializer_list<std::initializer_list<std::initializer_list<T>>> blocks) {
  std::vector<Tensor> parts;
  for (const auto& block : blocks) parts.push_back(tensor(block));
  return detail::stacked(parts);
}

// Numbers that stay where they are, in row-major order, without a copy. They must not change or go away before the last
// tensor and graph made from the result; assign() leaves them alone and gives the tensor memory of its own.
Tensor borrowed(const float* numbers, const Shape& shape);
Tensor borrowed(const double* numbers, const Shape& shape);
Tensor borrowed(const bool* numbers, const Shape& shape);

Tensor full(const Shape& shape, double value, Dtype dtype = Dtype::float32);
Tensor full_like(const Tensor& x, double value);
Tensor zeros(const Shape& shape, Dtype dtype = Dtype::float32);
Tensor ones(const Shape& shape, Dtype dtype = Dtype::float32);
Tensor zeros_like(const Tensor& x);
Tensor ones_like(const Tensor& x);
Tensor arange(double stop, Dtype dtype = Dtype::float32);   // 0, 1, 2, ... below stop
Tensor arange(double start, double stop, double step, Dtype dtype = Dtype::float32);
Tensor linspace(double start, double stop, std::int64_t n, Dtype dtype = Dtype::float32);   // n numbers, both ends in
Tensor eye(std::int64_t n, Dtype dtype = Dtype::float32);

}  // namespace surgeon
