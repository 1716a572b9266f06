// One kernel source, compiled for several instruction sets, chosen once at start. Each such source is built with
// SURGEON_ISA set to the namespace its table goes into; CMakeLists.txt has the flags.
#pragma once

namespace surgeon::kernels {

enum class Isa { baseline, v3, v4 };   // x86-64-v3: AVX2 and FMA; x86-64-v4: AVX-512 F, BW, CD, DQ, VL
Isa isa() noexcept;                    // the best this machine has, or less if the environment's SURGEON_SIMD asks

// The table of this machine's instruction set. Elsewhere than on x86-64 all three are the same one.
template <class Table>
const Table& choose(const Table& baseline, const Table& v3, const Table& v4) noexcept {
  switch (isa()) {
    case Isa::v4: return v4;
    case Isa::v3: return v3;
    default: return baseline;
  }
}

}  // namespace surgeon::kernels
