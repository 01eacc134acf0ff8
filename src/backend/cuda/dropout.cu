// Keep masks of a window. One Philox block decides four neighbouring units, so a thread has four.
#include "backend/cuda/cuda_backend.hpp"
#include "backend/cuda/launch.hpp"
#include "ptb_dist/base/random.hpp"

namespace ptb::cuda {
namespace {

constexpr int kThreads = 256;

struct MaskShape {
  std::int64_t T, B, H;
};

// masks [L+1,T,B,H]; `rows` = (L+1)·T·B
__global__ void __launch_bounds__(kThreads)
    keep_masks(const StepState* __restrict__ step, std::uint64_t seed, std::int32_t first_lane,
               std::uint64_t threshold, MaskShape shape, std::int64_t rows,
               std::uint8_t* __restrict__ masks) {
  const std::int64_t quads = (shape.H + 3) / 4;
  const std::int64_t index = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (index >= rows * quads) return;
  const std::int64_t row = index / quads, quad = index % quads;
  const DropoutPosition at{
      .epoch = static_cast<std::uint32_t>(step->epoch),
      .window = static_cast<std::uint32_t>(step->window),
      .site = static_cast<std::uint32_t>(row / (shape.T * shape.B)),
      .lane = static_cast<std::uint32_t>(first_lane + row % shape.B),
      .time = static_cast<std::uint32_t>(row / shape.B % shape.T),
  };
  const RandomBlock words = dropout_words(seed, at, static_cast<std::uint32_t>(quad));
  const std::int64_t units = shape.H - 4 * quad < 4 ? shape.H - 4 * quad : 4;
  std::uint8_t* const keep = masks + row * shape.H + 4 * quad;
  if (shape.H % 4 == 0) {  // then every group of four is aligned
    *reinterpret_cast<uchar4*>(keep) = uchar4{words[0] < threshold, words[1] < threshold,
                                              words[2] < threshold, words[3] < threshold};
    return;
  }
  for (std::int64_t k = 0; k < units; ++k) {
    keep[k] = words[static_cast<std::size_t>(k)] < threshold;
  }
}

}  // namespace

void CudaBackend::draw_dropout(const Dropout& dropout) {
  if (dropout.masks.empty()) return;
  const Shape& shape = dropout.masks.shape();
  const MaskShape window{.T = shape[1], .B = shape[2], .H = shape[3]};
  const std::int64_t rows = shape[0] * window.T * window.B;
  const std::int64_t quads = rows * ((window.H + 3) / 4);
  launch(keep_masks, {blocks_of(quads, kThreads), kThreads, stream()},
         reinterpret_cast<const StepState*>(step_.get()), dropout.seed, dropout.first_lane,
         keep_threshold(dropout.keep_prob), window, rows, dropout.masks.data<std::uint8_t>());
}

}  // namespace ptb::cuda
