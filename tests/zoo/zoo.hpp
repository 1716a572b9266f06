// The bug zoo: known mistakes in attention, each written the way people write it, as small as it can be. What they
// compute is what a user would dump: Q, K, V, weights, output and gradients, and the doctor is told what was meant.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "layers/specimen.hpp"

namespace surgeon::tests {

struct Exhibit {
  std::string name;
  std::string diagnosis;   // that the doctor should give; empty: a broken law has to do
  std::function<Specimen(std::uint64_t seed, Dtype dtype)> make;
};
const std::vector<Exhibit>& zoo();

// A correct layer of random sizes and masks; float32 or float64, or float32 numbers that were rounded to bfloat16 after
// every step. Scores: healthy ones have a standard deviation of at most 1, extreme ones up to 64, with dead rows,
// one-hot weights and denormal gradients.
enum class Format { float32, float64, bfloat16 };
enum class Scores { healthy, extreme };
Specimen correct_layer(std::uint64_t seed, Format format, Scores scores);

}  // namespace surgeon::tests
