// Embedding: copies rows of the table. In the backward pass one block sums the gradients of each
// distinct word, in ascending order of its positions, without atomic additions.
#include <algorithm>

#include "backend/cuda/cuda_backend.hpp"
#include "backend/cuda/launch.hpp"
#include "ptb_dist/backend/cell_math.hpp"

namespace ptb::cuda {
namespace {

// Neighbouring units of a row that the threads of a block read together, so that reads coalesce.
constexpr unsigned kThreads = 128;

// One block per position: out[p,:] = dropped(table[ids[p],:]). masks [T·B,H]; null without dropout.
__global__ void __launch_bounds__(kThreads)
    look_up(const float* __restrict__ table, const std::int32_t* __restrict__ ids,
            const std::uint8_t* __restrict__ masks, float scale, std::int64_t H,
            float* __restrict__ out) {
  const std::int64_t p = blockIdx.x;
  const float* const row = table + ids[p] * H;
  for (std::int64_t k = threadIdx.x; k < H; k += blockDim.x) {
    out[p * H + k] = masks == nullptr ? row[k] : cell::dropped(row[k], masks[p * H + k], scale);
  }
}

// One block per row of the gradient's capacity; those from `count` on do nothing.
__global__ void __launch_bounds__(kThreads)
    sum_words(const float* __restrict__ d_out, const std::int32_t* __restrict__ row_begin,
              const std::int32_t* __restrict__ positions, const std::int32_t* __restrict__ count,
              const std::uint8_t* __restrict__ masks, float scale, std::int64_t H,
              float* __restrict__ packed) {
  const std::int64_t u = blockIdx.x;
  if (u >= *count) return;
  for (std::int64_t k = threadIdx.x; k < H; k += blockDim.x) {
    float sum = 0;
    for (std::int32_t n = row_begin[u]; n < row_begin[u + 1]; ++n) {
      const std::int64_t at = positions[n] * H + k;
      sum += masks == nullptr ? d_out[at] : cell::dropped(d_out[at], masks[at], scale);
    }
    packed[u * H + k] = sum;
  }
}

const std::uint8_t* masks_of(const Dropout& dropout) {
  return dropout.masks.empty() ? nullptr : dropout.masks.data<std::uint8_t>();
}

}  // namespace

void CudaBackend::embedding(const EmbeddingForward& op) {
  const auto positions = static_cast<unsigned>(op.ids.elements());
  launch(look_up, {positions, kThreads, stream()}, op.table.data<float>(),
         op.ids.data<std::int32_t>(), masks_of(op.dropout),
         static_cast<float>(1.0 / op.dropout.keep_prob), op.table.shape()[1], op.out.data<float>());
}

void CudaBackend::embedding_backward(const EmbeddingBackward& op) {
  const Tensor& packed = op.rows.packed;
  // Each pair of neighbours in row_begin is a row; the gradient has no more.
  const std::int64_t rows = std::min(packed.shape()[0], op.row_begin.elements() - 1);
  launch(sum_words, {static_cast<unsigned>(rows), kThreads, stream()}, op.d_out.data<float>(),
         op.row_begin.data<std::int32_t>(), op.positions.data<std::int32_t>(),
         op.rows.count.data<std::int32_t>(), masks_of(op.dropout),
         static_cast<float>(1.0 / op.dropout.keep_prob), packed.shape()[1], packed.data<float>());
}

}  // namespace ptb::cuda
