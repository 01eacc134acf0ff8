// The only header that knows that nvcc or the host compiler may compile a kernel. Only .cu files
// include it.
//
// Kernels are started by launch() and take shared memory from the macros below. Of CUDA's device
// functions they use only those that both compilers have: thread and block indices, __syncthreads,
// __shfl_xor_sync.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>

#include "backend/cuda/check.hpp"

// A host compiler gets its own versions of these two from a header that it reads first
// (tests/cuda_on_cpu).
#ifndef PTB_SHARED
// An array of `count` in shared memory.
#define PTB_SHARED(type, name, count) __shared__ type name[count]
// Says to an emulation how a kernel is called.
#define PTB_INTRODUCE(kernel, where)
#endif

namespace ptb::cuda {

// The number of blocks of `size` that cover so many elements.
inline unsigned blocks_of(std::int64_t elements, std::int64_t size) {
  return static_cast<unsigned>((elements + size - 1) / size);
}

// Where a kernel runs, and the line that messages name.
struct LaunchShape {
  LaunchShape(dim3 grid_extent, dim3 block_extent, cudaStream_t on_stream,
              std::source_location launched_at = std::source_location::current())
      : grid(grid_extent), block(block_extent), stream(on_stream), where(launched_at) {}

  dim3 grid, block;
  cudaStream_t stream;
  std::source_location where;
};

// Starts a kernel; converts the arguments to the types of its parameters. An empty grid starts
// none.
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
