// Global norm, clip and SGD step over the gradient's two parts: rows of words, and the dense slab.
#include <algorithm>
#include <cmath>

#include "backend/cpu/cpu_backend.hpp"
#include "backend/cpu/loops.hpp"
#include "backend/cpu/parallel.hpp"

namespace ptb {
namespace {

// Elements whose squares are summed together; the blocks' sums are added in block order.
constexpr std::int64_t kNormBlock = 4096;

// Of the first n elements.
double sum_of_squares(int threads, const Tensor& x, std::int64_t n) {
  const std::int64_t blocks = (n + kNormBlock - 1) / kNormBlock;
  const float* data = n > 0 ? x.data<float>() : nullptr;
  std::vector<double> sums(static_cast<std::size_t>(blocks));
  parallel_for(threads, blocks, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t first = block * kNormBlock;
      sums[static_cast<std::size_t>(block)] =
          loops::sum_of_squares(std::min(kNormBlock, n - first), data + first);
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace

void CpuBackend::add(const Addition& op) {
  require(op.to.type() == op.from.type() && op.to.elements() == op.from.elements(),
          "what is added has the same type and size");
  if (op.to.type() == ElementType::f64) {
    for (std::int64_t i = 0; i < op.to.elements(); ++i) {
      op.to.data<double>()[i] += op.from.data<double>()[i];
    }
    return;
  }
  parallel_for(threads_, op.to.elements(), kNormBlock, [&](std::int64_t begin, std::int64_t end) {
    loops::add_scaled(end - begin, 1.0f, op.from.data<float>() + begin,
                      op.to.data<float>() + begin);
  });
}

void CpuBackend::gradient_norm(const GradientNorm& op) {
  const Rows& rows = op.gradient.embedding;
  const std::int64_t row_elements = *rows.count.data<std::int32_t>() * rows.packed.shape()[1];
  const Tensor& dense = op.gradient.dense;
  *op.norm.data<double>() = std::sqrt(sum_of_squares(threads_, rows.packed, row_elements) +
                                      sum_of_squares(threads_, dense, dense.elements()));
}

void CpuBackend::clip_step(const ClipStep& op) {
  const double norm = *op.norm.data<double>();
  std::int32_t& failed = *op.failed.data<std::int32_t>();
  if (!std::isfinite(norm) || !std::isfinite(*op.loss.data<double>())) failed = 1;
  if (failed != 0) return;

  const auto factor =
      static_cast<float>(-step_.learning_rate * op.max_norm / std::max(norm, op.max_norm));
  const Rows& embedding = op.gradient.embedding;
  const std::int64_t U = *embedding.count.data<std::int32_t>();
  const std::int64_t H = op.embedding.shape()[1];
  const std::int32_t* ids = embedding.ids.data<std::int32_t>();
  const float* rows = embedding.packed.data<float>();
  float* table = op.embedding.data<float>();
  parallel_for(threads_, U, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t u = begin; u < end; ++u) {
      loops::add_scaled(H, factor, rows + u * H, table + ids[u] * H);
    }
  });
  const float* gradient = op.gradient.dense.data<float>();
  float* values = op.dense.data<float>();
  parallel_for(threads_, op.dense.elements(), kNormBlock,
               [&](std::int64_t begin, std::int64_t end) {
                 loops::add_scaled(end - begin, factor, gradient + begin, values + begin);
               });
}

}  // namespace ptb
