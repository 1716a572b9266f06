// Numbers of few bits, rounded in software: what a cast to them would keep. No tensor is stored in them.
#pragma once

#include "framework/tensor.hpp"

namespace surgeon {

// bfloat16, float16 (IEEE 754), and the two 8-bit formats of OCP, "8-bit floating point specification", 2023:
//             bits of significand   smallest normal   smallest      largest         beyond the largest
//   bfloat16  8                     2^-126            2^-133        3.39e38         inf
//   float16   11                    2^-14             2^-24         65504           inf
//   e4m3      4                     2^-6              2^-9          448             nan
//   e5m2      3                     2^-14             2^-16         57344           inf
enum class Format { bfloat16, float16, e4m3, e5m2 };
const char* to_string(Format format);

// To the nearest number of the format, halves to even, as PyTorch's casts; nan stays nan. The tensor keeps its dtype, and
// has no gradient.
double rounded_to(double x, Format format);
Tensor rounded_to(const Tensor& x, Format format);

}  // namespace surgeon
