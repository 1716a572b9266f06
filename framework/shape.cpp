// Names and sizes of dtypes and shapes. No errors.hpp here: its sentences are made from these names.
#include "framework/shape.hpp"

#include <algorithm>
#include <stdexcept>

namespace surgeon {

std::string to_string(Dtype dtype) {
  constexpr const char* names[] = {"float32", "float64", "int64", "boolean"};
  return names[int(dtype)];
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

bool is_floating(Dtype dtype) noexcept { return dtype == Dtype::float32 || dtype == Dtype::float64; }

std::int64_t element_size(Dtype dtype) noexcept {
  constexpr std::int64_t bytes[] = {4, 8, 8, 1};
  return bytes[int(dtype)];
}

namespace {

template <class Error>
[[noreturn]] void refuse(const Shape& shape, const std::string& why) {
  std::string text = "shape ";
  throw Error(text.append(to_string(shape)).append(": ").append(why));
}

}  // namespace

std::int64_t count(const Shape& shape) {
  constexpr std::int64_t limit = std::int64_t{1} << 59;   // eight bytes each: 2^62
  std::int64_t n = 1, nonzero = 1;
  for (const std::int64_t size : shape) {
    if (size < 0) refuse<std::invalid_argument>(shape, "size " + std::to_string(size) + " is negative");
    if (size > 0 && nonzero > limit / size) refuse<std::length_error>(shape, "more than 2^59 elements");
    nonzero *= std::max<std::int64_t>(size, 1);
    n *= size;
  }
  return n;
}

bool broadcasts_to(const Shape& from, const Shape& into) noexcept {
  if (from.size() > into.size()) return false;
  const auto last = into.end() - std::ptrdiff_t(from.size());   // sizes are compared from the end
  return std::equal(from.begin(), from.end(), last, [](auto size, auto with) { return size == 1 || size == with; });
}

}  // namespace surgeon
