// Making, inspecting, reading and assigning tensors, and their release.
#include "framework/tensor.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "framework/detail/node.hpp"
#include "framework/errors.hpp"
#include "framework/kernels/pool.hpp"

namespace surgeon {

using detail::Buffer;
using detail::Node;

namespace detail {

void refuse_empty(const char* op) { throw std::invalid_argument(std::string(op) + ": an empty tensor has no values"); }
void refuse_dtype(const char* op, Dtype dtype) {
  throw std::invalid_argument(sentence(op, ": needs float32 or float64, not ", dtype));
}

namespace {

// A thread takes ids by the block, so that counting does not cross the machine for every tensor.
struct Ids {
  std::uint64_t next = 0, end = 0;
};
thread_local Ids ids;

std::uint64_t new_block() noexcept {
  constexpr std::uint64_t block = 1 << 16;
  static std::atomic<std::uint64_t> blocks{1};
  ids.next = blocks.fetch_add(1, std::memory_order_relaxed) * block;
  ids.end = ids.next + block;
  return ids.next++;
}

}  // namespace

std::uint64_t new_id() noexcept { return ids.next < ids.end ? ids.next++ : new_block(); }
std::uint64_t newest_id() noexcept { return new_block(); }

namespace {

Buffer* new_buffer(std::size_t bytes) {
  auto* buffer = new (kernels::allocate(64 + bytes)) Buffer;
  buffer->bytes = bytes;
  return buffer;
}

void drop(Buffer* buffer) noexcept {
  if (!buffer) return;
  if (buffer->references.load(std::memory_order_acquire) == 1 || buffer->references.fetch_sub(1) == 1) {
    const std::size_t bytes = buffer->bytes;
    buffer->~Buffer();
    kernels::deallocate(buffer, 64 + bytes);
  }
}

Node* new_node(Shape shape, Dtype dtype, std::int64_t size) {
  auto* node = new (kernels::allocate(sizeof(Node))) Node;
  node->dtype = dtype;
  node->id = new_id();
  node->size = size;
  node->shape = std::move(shape);
  return node;
}

void free_node(Node* node) noexcept {
  drop(node->buffer);
  if (node->step) destroy_step(node->step);   // its inputs may reach zero: destroy() below queues them
  node->~Node();
  kernels::deallocate(node, sizeof(Node));
}

}  // namespace

// Releasing the last tensor of a long chain must not recurse: while one release runs, others on this thread queue up,
// linked through their data pointers' place so that queueing cannot fail.
void destroy(Counted* counted) noexcept {
  thread_local bool draining = false;
  thread_local Node* queue = nullptr;
  auto* node = static_cast<Node*>(counted);
  if (!node->step) return free_node(node);
  node->data = queue;
  queue = node;
  if (draining) return;
  draining = true;
  while (queue) {
    Node* next = queue;
    queue = static_cast<Node*>(next->data);
    free_node(next);
  }
  draining = false;
}

Tensor make(Shape shape, Dtype dtype) {
  const std::int64_t size = count(shape);
  const std::size_t bytes = std::size_t(size) * std::size_t(element_size(dtype));
  Tensor x(new_node(std::move(shape), dtype, size));
  Node& node = x.node();
  node.data = node.inline_data;
  if (bytes > Node::inline_bytes) {
    node.buffer = new_buffer(bytes);
    node.data = node.buffer->data();
  }
  return x;
}

Tensor share(const Tensor& x, Shape shape) {
  const Node& from = x.node();
  Tensor y(new_node(std::move(shape), from.dtype, from.size));
  Node& node = y.node();
  node.data = node.inline_data;
  if (from.buffer) {
    from.buffer->references.fetch_add(1, std::memory_order_relaxed);
    node.buffer = from.buffer;
    node.data = from.data;
  } else {
    std::memcpy(node.inline_data, from.inline_data, Node::inline_bytes);
  }
  return y;
}

Tensor borrow(const void* numbers, const Shape& shape, Dtype dtype) {
  Tensor x(new_node(shape, dtype, count(shape)));
  x.node().buffer = new_buffer(0);
  x.node().data = const_cast<void*>(numbers);   // never written to: overwrite() and add_into() see that it is not ours
  return x;
}

void* overwrite(const Tensor& x) {
  Node& node = x.node();
  const bool borrowed = node.buffer && node.buffer->bytes == 0;
  if (borrowed || (node.buffer && node.buffer->references.load(std::memory_order_acquire) > 1)) {
    Buffer* own = new_buffer(std::size_t(node.size) * std::size_t(element_size(node.dtype)));
    std::memcpy(own->data(), node.data, own->bytes);
    drop(std::exchange(node.buffer, own));
    node.data = own->data();
  }
  ++node.version;
  return node.data;
}

namespace {

template <class T, class Values>
Tensor from_values(const Values& values, const Shape& shape, Dtype dtype) {
  require(std::int64_t(values.size()) == count(shape), "tensor: ", values.size(), " values do not fill shape ", shape);
  Tensor x = make(shape, dtype);
  std::transform(values.begin(), values.end(), fresh<T>(x), [](auto v) { return T(v); });
  return x;
}

}  // namespace
}  // namespace detail

using detail::data;
using detail::fresh;
using detail::make;

std::int64_t Tensor::shape(int axis) const { return shape()[std::size_t(checked_axis("shape", axis, rank()))]; }

namespace {

double number_at(const Tensor& x, std::int64_t i) {
  return detail::visit_dtype(x.dtype(), [&]<class T>(T) { return double(data<T>(x)[i]); });
}

template <class T> constexpr Dtype dtype_of() {
  if constexpr (std::is_same_v<T, float>) return Dtype::float32;
  else if constexpr (std::is_same_v<T, double>) return Dtype::float64;
  else if constexpr (std::is_same_v<T, bool>) return Dtype::boolean;
  else return Dtype::int64;
}

}  // namespace

double Tensor::item() const {
  require_value("item", *this);
  require(size() == 1, "item: ", shape(), " has ", size(), " elements, not 1");
  return number_at(*this, 0);
}

double Tensor::at(std::initializer_list<std::int64_t> index) const {
  require_value("at", *this);
  require<std::out_of_range>(int(index.size()) == rank(), "at: ", index.size(), " indices given, but ", shape(),
                             " has ", rank(), " axes");
  std::int64_t offset = 0;
  int axis = 0;
  for (std::int64_t i : index) {
    const std::int64_t n = shape()[std::size_t(axis)];
    require<std::out_of_range>(i >= -n && i < n, "at: index ", i, " is out of range for axis ", axis, " of ", shape());
    offset = offset * n + (i < 0 ? i + n : i);
    ++axis;
  }
  return number_at(*this, offset);
}

template <class T> std::span<const T> Tensor::values() const {
  if (empty()) return {};
  require(dtype() == dtype_of<T>(), "values: asked for ", dtype_of<T>(), ", but the tensor is ", dtype());
  return {data<T>(*this), std::size_t(size())};
}
template std::span<const float> Tensor::values() const;
template std::span<const double> Tensor::values() const;
template std::span<const std::int64_t> Tensor::values() const;
template std::span<const bool> Tensor::values() const;

void Tensor::assign(const Tensor& value) {
  require_value("assign", *this);
  require_value("assign", value);
  require(shape() == value.shape(), "assign: cannot assign ", value.shape(), " to a tensor of shape ", shape());
  require(dtype() == value.dtype(), "assign: cannot assign ", value.dtype(), " to a ", dtype(), " tensor");
  const Tensor source = value.same(*this) ? value.detach() : value;
  std::memcpy(detail::overwrite(*this), source.node().data, std::size_t(size() * element_size(dtype())));
}

Tensor Tensor::detach() const {
  require_value("detach", *this);
  return detail::share(*this, shape());
}

Tensor borrowed(const float* numbers, const Shape& shape) { return detail::borrow(numbers, shape, Dtype::float32); }
Tensor borrowed(const double* numbers, const Shape& shape) { return detail::borrow(numbers, shape, Dtype::float64); }
Tensor borrowed(const bool* numbers, const Shape& shape) { return detail::borrow(numbers, shape, Dtype::boolean); }

Tensor tensor(const std::vector<float>& values, const Shape& shape) {
  return detail::from_values<float>(values, shape, Dtype::float32);
}
Tensor tensor(const std::vector<double>& values, const Shape& shape) {
  return detail::from_values<double>(values, shape, Dtype::float64);
}
Tensor tensor(const std::vector<std::int64_t>& values, const Shape& shape) {
  return detail::from_values<std::int64_t>(values, shape, Dtype::int64);
}
Tensor tensor(const std::vector<bool>& values, const Shape& shape) {
  return detail::from_values<bool>(values, shape, Dtype::boolean);
}
Tensor tensor(const std::vector<unsigned char>& values, const Shape& shape) {
  return detail::from_values<bool>(values, shape, Dtype::boolean);
}

Tensor full(const Shape& shape, double value, Dtype dtype) {
  Tensor x = make(shape, dtype);
  detail::visit_dtype(dtype, [&]<class T>(T) { std::fill_n(fresh<T>(x), x.size(), T(value)); });
  return x;
}
Tensor zeros(const Shape& shape, Dtype dtype) { return full(shape, 0.0, dtype); }
Tensor ones(const Shape& shape, Dtype dtype) { return full(shape, 1.0, dtype); }
Tensor zeros_like(const Tensor& x) { return full(x.shape(), 0.0, x.dtype()); }
Tensor ones_like(const Tensor& x) { return full(x.shape(), 1.0, x.dtype()); }

Tensor arange(double stop, Dtype dtype) { return arange(0.0, stop, 1.0, dtype); }

Tensor arange(double start, double stop, double step, Dtype dtype) {
  require(std::isfinite(start) && std::isfinite(stop) && std::isfinite(step) && step != 0.0,
          "arange: from ", start, " to ", stop, " in steps of ", step, ": all must be finite, and the step not 0");
  const double steps = std::max(0.0, std::ceil((stop - start) / step));
  require<std::length_error>(steps < 1e18, "arange: from ", start, " to ", stop, " in steps of ", step,
                             ": too many numbers");
  Tensor x = make({std::int64_t(steps)}, dtype);
  detail::visit_dtype(dtype, [&]<class T>(T) {
    for (std::int64_t i = 0; i < x.size(); ++i) fresh<T>(x)[i] = T(start + double(i) * step);
  });
  return x;
}

Tensor full_like(const Tensor& x, double value) { return full(x.shape(), value, x.dtype()); }

Tensor linspace(double start, double stop, std::int64_t n, Dtype dtype) {
  require(n >= 0, "linspace: ", n, " numbers; their count cannot be negative");
  require(is_floating(dtype), "linspace: needs float32 or float64, not ", dtype);
  Tensor x = make({n}, dtype);
  const double step = n > 1 ? (stop - start) / double(n - 1) : 0.0;
  detail::visit_floating(dtype, [&]<class T>(T) {
    for (std::int64_t i = 0; i < n; ++i) fresh<T>(x)[i] = T(n > 1 && i == n - 1 ? stop : start + double(i) * step);
  });
  return x;
}

Tensor eye(std::int64_t n, Dtype dtype) {
  Tensor x = zeros({n, n}, dtype);
  detail::visit_dtype(dtype, [&]<class T>(T) {
    for (std::int64_t i = 0; i < n; ++i) fresh<T>(x)[i * n + i] = T(1);
  });
  return x;
}

}  // namespace surgeon
