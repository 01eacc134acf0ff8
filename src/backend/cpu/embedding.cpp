// Embedding: rows of the table are copied out; their gradients are summed per distinct word.
#include <algorithm>

#include "backend/cpu/cpu_backend.hpp"
#include "backend/cpu/loops.hpp"
#include "backend/cpu/parallel.hpp"

namespace ptb {

void CpuBackend::embedding(const EmbeddingForward& op) {
  const std::int64_t N = op.ids.elements();
  const std::int64_t H = op.table.shape()[1];
  const bool drops = !op.dropout.masks.empty();
  const std::uint8_t* masks = drops ? op.dropout.masks.data<std::uint8_t>() : nullptr;
  const auto scale = static_cast<float>(1.0 / op.dropout.keep_prob);
  const std::int32_t* ids = op.ids.data<std::int32_t>();
  const float* table = op.table.data<float>();
  float* out = op.out.data<float>();
  parallel_for(threads_, N, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      const float* row = table + ids[p] * H;
      if (drops) {
        loops::drop(H, scale, masks + p * H, row, out + p * H);
      } else {
        std::copy(row, row + H, out + p * H);
      }
    }
  });
}

void CpuBackend::embedding_backward(const EmbeddingBackward& op) {
  const std::int64_t U = *op.rows.count.data<std::int32_t>();
  const std::int64_t H = op.rows.packed.shape()[1];
  const bool drops = !op.dropout.masks.empty();
  const std::uint8_t* masks = drops ? op.dropout.masks.data<std::uint8_t>() : nullptr;
  const auto scale = static_cast<float>(1.0 / op.dropout.keep_prob);
  const std::int32_t* row_begin = op.row_begin.data<std::int32_t>();
  const std::int32_t* positions = op.positions.data<std::int32_t>();
  const float* d_out = op.d_out.data<float>();
  float* packed = op.rows.packed.data<float>();
  parallel_for(threads_, U, 32, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t u = begin; u < end; ++u) {
      float* row = packed + u * H;
      std::fill(row, row + H, 0.0f);
      for (std::int32_t k = row_begin[u]; k < row_begin[u + 1]; ++k) {
        const std::int64_t at = std::int64_t{positions[k]} * H;
        if (drops) {
          loops::add_dropped(H, scale, masks + at, d_out + at, row);
        } else {
          loops::add_scaled(H, 1.0f, d_out + at, row);
        }
      }
    }
  });
}

}  // namespace ptb
