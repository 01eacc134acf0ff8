// Keep masks of a window: one Philox block decides four neighbouring units.
#include "backend/cpu/cpu_backend.hpp"
#include "backend/cpu/loops.hpp"
#include "backend/cpu/parallel.hpp"

namespace ptb {

void CpuBackend::draw_dropout(const Dropout& dropout) {
  if (dropout.masks.empty()) return;
  const Shape& shape = dropout.masks.shape();
  const std::int64_t T = shape[1], B = shape[2], H = shape[3];
  const std::uint64_t threshold = keep_threshold(dropout.keep_prob);
  std::uint8_t* masks = dropout.masks.data<std::uint8_t>();
  parallel_for(threads_, shape[0] * T * B, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const DropoutPosition at{
          .epoch = static_cast<std::uint32_t>(step_.epoch),
          .window = static_cast<std::uint32_t>(step_.window),
          .site = static_cast<std::uint32_t>(row / (T * B)),
          .lane = static_cast<std::uint32_t>(dropout.first_lane + row % B),
          .time = static_cast<std::uint32_t>(row / B % T),
      };
      loops::keep_masks(H, dropout.seed, at, threshold, masks + row * H);
    }
  });
}

}  // namespace ptb
