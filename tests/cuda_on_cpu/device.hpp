// Lets the host compiler read a .cu file: the device's vocabulary, as far as the backend speaks it.
// A word that is missing here does not compile. The compiler reads it before each .cu file
// (-include in CMakeLists.txt), so no file of the product names it.
#pragma once

#ifdef __CUDACC__
#error "nvcc has the real ones"
#endif

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <span>
#include <type_traits>
#include <utility>

// The toolkit's headers make nothing of it, so a shared array would silently be each thread's own.
#undef __shared__
#define __shared__ take_shared_arrays_from_PTB_SHARED
#define __launch_bounds__(...)
// Those of src/backend/cuda/launch.hpp.
#define PTB_SHARED(type, name, count) \
  type* const name = ::ptb::cuda_on_cpu::shared_array<type, count, __COUNTER__>()
#define PTB_INTRODUCE(kernel, where) ::ptb::cuda_on_cpu::introduce(kernel, where)

namespace ptb::cuda_on_cpu {

// Of the thread that is running.
struct Place {
  uint3 thread{}, block{};
  dim3 block_extent{};
};
extern Place place;

// Where a thread waits: threads of a block must meet in the same line.
struct Line {
  const char* file = nullptr;
  int number = 0;

  bool operator==(const Line&) const = default;
};
void barrier(Line line);
// The value that lane (own lane XOR lane_mask) of the warp gives. All 32 lanes take part.
std::uint64_t exchange(unsigned mask, std::uint64_t value, int lane_mask, Line line);

// Reserves shared memory, before main: one array of all blocks, since one block runs at a time.
std::size_t reserve_shared(std::size_t bytes);
unsigned char* shared_memory();
template <class T, std::size_t count, int id>
inline const std::size_t shared_offset = reserve_shared(count * sizeof(T));
template <class T, std::size_t count, int id>
T* shared_array() {
  return reinterpret_cast<T*>(shared_memory() + shared_offset<T, count, id>);
}

// How to call a kernel with copies of its arguments.
using Invoke = void (*)(const void* kernel, void** arguments);
void introduce(const void* kernel, Invoke invoke, std::span<const std::size_t> sizes,
               const std::source_location& where);

template <class... Parameters>
void introduce(void (*kernel)(Parameters...), const std::source_location& where) {
  static constexpr std::array<std::size_t, sizeof...(Parameters)> kSizes = {sizeof(Parameters)...};
  const Invoke invoke = [](const void* address, void** arguments) {
    [&]<std::size_t... k>(std::index_sequence<k...>) {
      auto* function = reinterpret_cast<void (*)(Parameters...)>(const_cast<void*>(address));
      function(*static_cast<std::remove_cv_t<Parameters>*>(arguments[k])...);
    }
    (std::index_sequence_for<Parameters...>{});
  };
  introduce(reinterpret_cast<const void*>(kernel), invoke, kSizes, where);
}

}  // namespace ptb::cuda_on_cpu

inline const uint3& threadIdx = ptb::cuda_on_cpu::place.thread;
inline const uint3& blockIdx = ptb::cuda_on_cpu::place.block;
inline const dim3& blockDim = ptb::cuda_on_cpu::place.block_extent;

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  ptb::cuda_on_cpu::barrier({file, line});
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t) && std::is_trivially_copyable_v<T>);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = ptb::cuda_on_cpu::exchange(mask, bits, lane_mask, {file, line});
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
