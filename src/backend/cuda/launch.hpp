// The one header that knows that a kernel may be compiled by nvcc or by the host compiler. Only .cu
// files include it.
//
// Kernels are started by launch(), take shared memory from the macros below, and use of the
// device's vocabulary what both compilers have: thread and block indices, __syncthreads,
// __shfl_xor_sync.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>

#include "backend/cuda/check.hpp"

// A host compiler has its own of these two from a header that it reads first (tests/cuda_on_cpu).
#ifndef PTB_SHARED
// An array of `count` in shared memory.
#define PTB_SHARED(type, name, count) __shared__ type name[count]
// Tells an emulation how to call a kernel.
#define PTB_INTRODUCE(kernel, where)
#endif

namespace ptb::cuda {

// Blocks of `size` that have room for so many elements.
inline unsigned blocks_of(std::int64_t elements, std::int64_t size) {
  return static_cast<unsigned>((elements + size - 1) / size);
}

// Where a kernel runs, and which line of ours to blame.
struct LaunchShape {
  LaunchShape(dim3 grid_extent, dim3 block_extent, cudaStream_t on_stream,
              std::source_location launched_at = std::source_location::current())
      : grid(grid_extent), block(block_extent), stream(on_stream), where(launched_at) {}

  dim3 grid, block;
  cudaStream_t stream;
  std::source_location where;
};

// Starts a kernel, its arguments converted to those of its signature. An empty grid starts nothing.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const LaunchShape& shape, Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  PTB_INTRODUCE(kernel, shape.where);
  std::tuple<std::remove_cv_t<Parameters>...> values{std::forward<Arguments>(arguments)...};
  std::apply(
      [&](auto&... value) {
        void* addresses[] = {static_cast<void*>(&value)..., nullptr};
        check(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), shape.grid, shape.block,
                               addresses, 0, shape.stream),
              shape.where);
      },
      values);
}

}  // namespace ptb::cuda
