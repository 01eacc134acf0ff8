// bfloat16 on the host: the upper half of a float, so its range and 8 bits of precision.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

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

// Elements from one row of a bf16 matrix to the next: a multiple of 32, 64 bytes, so that rows of
// any width are read in whole cache lines and tiles. Zeros behind a row's end.
constexpr std::int64_t padded(std::int64_t columns) { return (columns + 31) / 32 * 32; }

// Memory for a bf16 matrix, from the beginning of a cache line. Its contents go where it grows.
class Bf16Buffer {
 public:
  Bf16* get(std::int64_t elements) {
    if (elements <= size_) return values_.get();
    values_.reset();
    values_.reset(static_cast<Bf16*>(
        ::operator new(static_cast<std::size_t>(elements) * sizeof(Bf16), kAlignment)));
    size_ = elements;
    return values_.get();
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(Bf16* values) const { ::operator delete(values, kAlignment); }
  };

  std::unique_ptr<Bf16[], Free> values_;
  std::int64_t size_ = 0;
};

}  // namespace ptb
