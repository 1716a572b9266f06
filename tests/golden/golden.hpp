// Golden files: reference cases that tests/make_golden.py made with PyTorch, in the JSON format that its docstring
// describes. Here they are read and held against tensors; golden_calls.hpp knows what to call for each op.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "framework/framework.hpp"

namespace surgeon::tests {

using Json = nlohmann::json;

Json golden_cases(const std::string& file);   // tests/golden/<file>: an array of cases

// A tensor of a case: floating values take this dtype, integers and booleans keep theirs.
Tensor golden_tensor(const Json& written, Dtype floating);
// The numbers that make_golden.py draws for a seed; kind "any", "positive" or "small".
Tensor golden_draw(const Shape& shape, std::uint64_t seed, const std::string& kind, Dtype dtype);

std::string from_hexadecimal(const std::string& text);   // bytes of a file

// The largest finite |number|, but at most 100: beside 1e30 a 1 should still be right.
double golden_scale(const Json& expected);

// Empty when they agree, else one sentence with the index and both values. |actual - expected| may be tolerance times
// (|expected| + the scale of expected or, if that is less, noise); nan and infinities must be the same. A float32
// result is never held to more than float32's digits.
std::string golden_difference(const Tensor& actual, const Json& expected, double tolerance, double noise = 0);

}  // namespace surgeon::tests
