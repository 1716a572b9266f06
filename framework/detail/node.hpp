// Inside a Tensor: its buffer, and the step that made it. For the framework's own .cpp files.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>

#include "framework/tensor.hpp"

namespace surgeon::detail {

struct Step;   // in autograd.hpp
void destroy_step(Step* step) noexcept;

// A shared run of bytes; the numbers start 64 bytes after it, aligned to 64.
struct Buffer {
  std::atomic<std::uint32_t> references{1};
  std::size_t bytes = 0;   // of the numbers; 0 when they lie in memory that is not ours
  void* data() noexcept { return reinterpret_cast<std::byte*>(this) + 64; }
};

// Up to 64 bytes of numbers live in the node itself: small tensors cost one allocation.
struct Node : Counted {
  static constexpr std::size_t inline_bytes = 64;
  Buffer* buffer = nullptr;    // null when the numbers are inline
  Step* step = nullptr;        // null for a leaf
  alignas(64) std::byte inline_data[inline_bytes];
};

// A tensor whose numbers are not set yet.
Tensor make(Shape shape, Dtype dtype);
// The same numbers under another shape of equal count; no graph.
Tensor share(const Tensor& x, Shape shape);

template <class T> const T* data(const Tensor& x) noexcept { return static_cast<const T*>(x.node().data); }
// Only for whoever made x, before anyone else sees it.
template <class T> T* fresh(const Tensor& x) noexcept { return static_cast<T*>(x.node().data); }
// The numbers stay where they are.
Tensor borrow(const void* numbers, const Shape& shape, Dtype dtype);
// For optimizers and loading: un-shares the buffer, counts a new version, and lets the caller overwrite the numbers.
void* overwrite(const Tensor& x);

std::uint64_t new_id() noexcept;      // larger than any this thread was given before
std::uint64_t newest_id() noexcept;   // larger than any thread was given before

// For the engine; recorded like any op. sum_to: g summed back to the shape it was broadcast from. alias: x under a new
// identity. add_into: a + b, in a's own memory when recording is off and nothing else refers to it.
Tensor sum_to(const Tensor& g, const Shape& shape);
Tensor alias(const Tensor& x);
Tensor add_into(Tensor a, const Tensor& b);

// Calls body(T{}) with the C++ type of the dtype.
template <class Body>
decltype(auto) visit_floating(Dtype dtype, const Body& body) {
  return dtype == Dtype::float32 ? body(float{}) : body(double{});
}
template <class Body>
decltype(auto) visit_dtype(Dtype dtype, const Body& body) {
  switch (dtype) {
    case Dtype::float32: return body(float{});
    case Dtype::float64: return body(double{});
    case Dtype::int64: return body(std::int64_t{});
    default: return body(bool{});
  }
}

}  // namespace surgeon::detail

inline surgeon::detail::Node& surgeon::Tensor::node() const noexcept { return *static_cast<detail::Node*>(node_); }
