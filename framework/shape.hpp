// Dtype and Shape: what kind of numbers a tensor holds, and along which axes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace surgeon {

enum class Dtype : std::uint8_t { float32, float64, int64, boolean };
using Shape = std::vector<std::int64_t>;

std::string to_string(Dtype dtype);          // "float32"
std::string to_string(const Shape& shape);   // "[2, 3]"
bool is_floating(Dtype dtype) noexcept;
std::int64_t element_size(Dtype dtype) noexcept;   // bytes

// The number of elements; std::invalid_argument for a negative size, std::length_error past 2^59 elements.
std::int64_t count(const Shape& shape);
// Whether a tensor of shape `from` broadcasts to the shape `into`, as in NumPy.
bool broadcasts_to(const Shape& from, const Shape& into) noexcept;

}  // namespace surgeon
