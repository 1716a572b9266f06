// The bug zoo: known mistakes in attention, each written the way people write it, as small as it can be. What they
// compute is what a user would dump: Q, K, V, weights, output and gradients, and the doctor is told what was meant.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "layers/specimen.hpp"

namespace surgeon::tests {

// How numbers are stored. float16 and bfloat16 are float32 tensors whose numbers were rounded.
enum class Format { float32, float64, bfloat16, float16 };
std::string to_string(Format format);
Dtype dtype_of(Format format);
Tensor rounded(const Tensor& x, Format format);

struct Exhibit {
  std::string name;
  std::string diagnosis;   // that the doctor should give; empty: a broken law has to do
  std::function<Specimen(std::uint64_t seed, Format format)> make;
};
const std::vector<Exhibit>& zoo();

// A part of it, in a file of its own: right attention of other inputs, or under other rules, than those told.
void add_wrong_inputs(std::vector<Exhibit>& all);
// The specimen before anything is computed. Causal unless a case says otherwise.
Specimen drawn(std::uint64_t seed, Format format, const Shape& shape = {2, 4, 9, 6}, std::int64_t kv_heads = 4);

// A correct layer of random sizes, groups, masks, biases and upstream gradients; a half format rounds after every step.
// Scores: healthy ones have a standard deviation of about 1 at most, extreme ones up to 64, with dead rows, one-hot
// weights and denormal gradients.
enum class Scores { healthy, extreme };
Specimen correct_layer(std::uint64_t seed, Format format, Scores scores);

}  // namespace surgeon::tests
