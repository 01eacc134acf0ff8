// Global norm, clip and SGD step over the gradient's two parts: rows of words, and the dense slab.
#include <cmath>
#include <cstdint>

#include "backend/cuda/cuda_backend.hpp"
#include "backend/cuda/launch.hpp"
#include "backend/cuda/native.hpp"
#include "backend/cuda/reduce.hpp"

namespace ptb::cuda {
namespace {

// Elements whose squares one block sums. The number of blocks fixes the order of adding their sums.
constexpr std::int64_t kNormBlock = 4096;

struct GradientArrays {
  const float* rows;          // [R,H]; only the first *count rows are valid
  const std::int32_t* ids;    // [R]
  const std::int32_t* count;  // [1]
  std::int64_t width;         // H
  const float* dense;         // [dense_elements]
  std::int64_t dense_elements;
};

GradientArrays arrays_of(const GradientView& gradient) {
  const Rows& rows = gradient.embedding;
  return {.rows = rows.packed.data<float>(),
          .ids = rows.ids.data<std::int32_t>(),
          .count = rows.count.data<std::int32_t>(),
          .width = rows.packed.shape()[1],
          .dense = gradient.dense.data<float>(),
          .dense_elements = gradient.dense.elements()};
}

// sums[block] = Σ g² over its kNormBlock elements. The first blocks cover the capacity of the rows,
// the others the dense slab. In double, whose rounding is far below a float's.
__global__ void __launch_bounds__(kReduceThreads)
    sum_squares(GradientArrays g, std::int64_t row_blocks, double* __restrict__ sums) {
  const bool is_rows = blockIdx.x < row_blocks;
  const float* const values = is_rows ? g.rows : g.dense;
  const std::int64_t elements = is_rows ? *g.count * g.width : g.dense_elements;
  const std::int64_t first = (blockIdx.x - (is_rows ? 0 : row_blocks)) * kNormBlock;
  const std::int64_t end = first + kNormBlock < elements ? first + kNormBlock : elements;
  double mine = 0;
  for (std::int64_t k = first + threadIdx.x; k < end; k += blockDim.x) {
    const auto x = static_cast<double>(values[k]);
    mine += x * x;
  }
  const double all = reduce_block(mine, Sum{});
  if (threadIdx.x == 0) sums[blockIdx.x] = all;
}

// One block: norm = sqrt(Σ sums), in an order that n fixes.
__global__ void __launch_bounds__(kReduceThreads)
    root_of_sum(const double* __restrict__ sums, std::int64_t n, double* __restrict__ norm) {
  const double all = sum_of(sums, n);
  if (threadIdx.x == 0) *norm = sqrt(all);
}

constexpr unsigned kAddThreads = 256;

// to[k] += from[k]
template <class T>
__global__ void __launch_bounds__(kAddThreads)
    add_elements(const T* __restrict__ from, std::int64_t n, T* __restrict__ to) {
  const std::int64_t k = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (k < n) to[k] += from[k];
}

struct StepArrays {
  const StepState* step;
  const double* norm;
  const double* loss;
  double max_norm;
  std::int32_t* failed;
};

__device__ bool has_failed(const StepArrays& s) {
  return *s.failed != 0 || !std::isfinite(*s.norm) || !std::isfinite(*s.loss);
}

__device__ float step_factor(const StepArrays& s) {
  const double larger = *s.norm < s.max_norm ? s.max_norm : *s.norm;
  return static_cast<float>(-s.step->learning_rate * s.max_norm / larger);
}

// A thread reads and writes four neighbouring elements at once: three streams of 16 bytes per
// thread use the memory fully.
constexpr unsigned kStepThreads = 256;
constexpr std::int64_t kStepWidth = 4;

__global__ void __launch_bounds__(kStepThreads)
    step_dense(StepArrays s, const float* __restrict__ gradient, std::int64_t n, bool is_aligned,
               float* __restrict__ values) {
  if (has_failed(s)) return;
  const float factor = step_factor(s);
  const std::int64_t first = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kStepWidth;
  if (is_aligned && first + kStepWidth <= n) {
    const float4 g = *reinterpret_cast<const float4*>(gradient + first);
    float4 w = *reinterpret_cast<const float4*>(values + first);
    w.x += factor * g.x;
    w.y += factor * g.y;
    w.z += factor * g.z;
    w.w += factor * g.w;
    *reinterpret_cast<float4*>(values + first) = w;
    return;
  }
  for (std::int64_t k = first; k < first + kStepWidth && k < n; ++k) {
    values[k] += factor * gradient[k];
  }
}

// One block per row of the capacity.
__global__ void __launch_bounds__(kStepThreads)
    step_rows(StepArrays s, GradientArrays g, float* __restrict__ table) {
  const std::int64_t u = blockIdx.x;
  if (u >= *g.count || has_failed(s)) return;
  const float factor = step_factor(s);
  float* const row = table + g.ids[u] * g.width;
  for (std::int64_t k = threadIdx.x; k < g.width; k += blockDim.x) {
    row[k] += factor * g.rows[u * g.width + k];
  }
}

// Runs after the steps, because they all read the flag.
__global__ void remember_failure(StepArrays s) {
  if (has_failed(s)) *s.failed = 1;
}

bool is_aligned(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address) % sizeof(float4) == 0;
}

}  // namespace

void add_on(cudaStream_t stream, void* to, const void* from, std::int64_t elements,
            ElementType type) {
  const unsigned blocks = blocks_of(elements, kAddThreads);
  if (type == ElementType::f64) {
    launch(add_elements<double>, {blocks, kAddThreads, stream}, static_cast<const double*>(from),
           elements, static_cast<double*>(to));
  } else {
    require(type == ElementType::f32, "what is added is f32 or f64");
    launch(add_elements<float>, {blocks, kAddThreads, stream}, static_cast<const float*>(from),
           elements, static_cast<float*>(to));
  }
}

void CudaBackend::add(const Addition& op) {
  require(op.to.type() == op.from.type() && op.to.elements() == op.from.elements(),
          "what is added has the same type and size");
  add_on(stream(), op.to.raw(), op.from.raw(), op.to.elements(), op.to.type());
}

void CudaBackend::gradient_norm(const GradientNorm& op) {
  const GradientArrays g = arrays_of(op.gradient);
  const unsigned row_blocks = blocks_of(op.gradient.embedding.packed.elements(), kNormBlock);
  const unsigned blocks = row_blocks + blocks_of(g.dense_elements, kNormBlock);
  double* const sums = square_sums_.get<double>(blocks);
  launch(sum_squares, {blocks, kReduceThreads, stream()}, g, row_blocks, sums);
  launch(root_of_sum, {1, kReduceThreads, stream()}, sums, blocks, op.norm.data<double>());
}

void CudaBackend::clip_step(const ClipStep& op) {
  const GradientArrays g = arrays_of(op.gradient);
  const StepArrays s{.step = reinterpret_cast<const StepState*>(step_.get()),
                     .norm = op.norm.data<double>(),
                     .loss = op.loss.data<double>(),
                     .max_norm = op.max_norm,
                     .failed = op.failed.data<std::int32_t>()};
  const auto rows = static_cast<unsigned>(op.gradient.embedding.packed.shape()[0]);
  const unsigned blocks = blocks_of(g.dense_elements, kStepThreads * kStepWidth);
  float* const dense = op.dense.data<float>();
  launch(step_rows, {rows, kStepThreads, stream()}, s, g, op.embedding.data<float>());
  launch(step_dense, {blocks, kStepThreads, stream()}, s, g.dense, g.dense_elements,
         is_aligned(g.dense) && is_aligned(dense), dense);
  launch(remember_failure, {1, 1, stream()}, s);
}

}  // namespace ptb::cuda
