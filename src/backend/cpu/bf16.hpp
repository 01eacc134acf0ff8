// bfloat16 on the host: the upper half of a float, so its range and 8 bits of precision.
#pragma once

#include <bit>
#include <cstdint>

namespace ptb {

using Bf16 = std::uint16_t;

// The nearest bf16, of two the one that is even; a NaN stays one. Denormals are kept, where the
// processor's own instruction makes zeros of them: both differ from the float by less than 1e-38.
inline Bf16 to_bf16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1u);
  const std::uint32_t quiet = bits | 0x00400000u;  // rounding could carry a NaN to infinity
  return static_cast<Bf16>((x == x ? rounded : quiet) >> 16);
}

inline float from_bf16(Bf16 x) { return std::bit_cast<float>(std::uint32_t{x} << 16); }

}  // namespace ptb
