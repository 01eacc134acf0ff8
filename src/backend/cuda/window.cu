// Copies the ids of a window from the table of all windows in device memory.
#include "backend/cuda/cuda_backend.hpp"
#include "backend/cuda/launch.hpp"

namespace ptb::cuda {
namespace {

constexpr unsigned kThreads = 256;

// A thread copies one element: a row may begin anywhere, so wider reads would not be aligned.
__global__ void __launch_bounds__(kThreads)
    copy_row(const StepState* __restrict__ step, const std::int32_t* __restrict__ table,
             std::int64_t n, std::int32_t* __restrict__ to) {
  const std::int64_t k = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (k < n) to[k] = table[step->window * n + k];
}

}  // namespace

void CudaBackend::load_window(const WindowLoad& op) {
  const std::int64_t n = op.to.elements();
  launch(copy_row, {blocks_of(n, kThreads), kThreads, stream()},
         reinterpret_cast<const StepState*>(step_.get()), op.table.data<std::int32_t>(), n,
         op.to.data<std::int32_t>());
}

}  // namespace ptb::cuda
