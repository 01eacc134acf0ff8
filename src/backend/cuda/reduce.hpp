// Sums and maxima over the threads of a block, in an order that the block's size fixes. For .cu
// files.
#pragma once

#include "backend/cuda/launch.hpp"

namespace ptb::cuda {

// Threads of a block that reduces: whole warps, and a power of two of them.
inline constexpr unsigned kReduceThreads = 256;

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

struct Maximum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b ? b : a;  // no comparison with a NaN is true
  }
};

// combine over all kReduceThreads threads of the block. All must call it; all get the same result.
//
// A butterfly within each warp; then a second one over the results of the warps in shared memory.
template <class T, class Combine>
__device__ T reduce_block(T value, Combine combine) {
  constexpr unsigned kLanes = 32, kWarps = kReduceThreads / kLanes;
  PTB_SHARED(T, of_warps, kWarps);
  for (unsigned step = kLanes / 2; step > 0; step /= 2) {
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, static_cast<int>(step)));
  }
  __syncthreads();  // the previous call may still read of_warps
  if (threadIdx.x % kLanes == 0) of_warps[threadIdx.x / kLanes] = value;
  __syncthreads();
  value = of_warps[threadIdx.x % kWarps];
  for (unsigned step = kWarps / 2; step > 0; step /= 2) {
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, static_cast<int>(step)));
  }
  return value;
}

// Σ values over a whole block, in an order that n fixes.
inline __device__ double sum_of(const double* __restrict__ values, std::int64_t n) {
  double mine = 0;
  for (std::int64_t k = threadIdx.x; k < n; k += blockDim.x) mine += values[k];
  return reduce_block(mine, Sum{});
}

}  // namespace ptb::cuda
