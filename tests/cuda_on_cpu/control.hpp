// What tests may set and read of the emulation. In a program it is set by environment variables:
//
//   CUDA_ON_CPU_SEED      schedule: 0 everything at once and in order; others draw orders (1)
//   CUDA_ON_CPU_DEVICES   number of devices (1)
//   CUDA_ON_CPU_BOUND     number of the only one of them that the process sees, from 0 (all)
//   CUDA_ON_CPU_DRIVER    version that the driver says it supports, as 13000; 0: no driver (13000)
//   CUDA_ON_CPU_MEMORY    bytes of a device (1 GiB)
//   CUDA_ON_CPU_FAIL      malloc:N, pinned:N, cublas:N, launch:N or copy:N: the N-th of these
//                         fails, counted from 1;
//                         driver:N, device:N or kernel:N: every call that needs a driver, every
//                         call that needs a device's context, or every launch returns the
//                         driver's error number N, for example 802;
//                         nccl-async:N: from the N-th group on, collectives never end and NCCL
//                         reports an error; nccl-init:1: it never ends; nccl-abort:1: it hangs
//   CUDA_ON_CPU_MIG       1: the devices are parts of one
//   CUDA_ON_CPU_TF32      truncate: inputs of TF32 products lose their lower bits, as tensor cores
//                         may have it, and are not rounded
//   CUDA_ON_CPU_NCCL      version that NCCL says it has (that of its header)
//   CUDA_ON_CPU_COUNTS    file for the counters below, written when the process ends
//   CUDA_ON_CPU_TRACE     file for what happens: "call" of a collective, "begin" and "end" of each
//                         operation on a stream, with the place where a kernel was launched
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace ptb::cuda_on_cpu {

// In whole sectors of 32 bytes.
struct Bytes {
  std::int64_t of_memory = 0;  // each sector once a launch: the L2 cache keeps it meanwhile
  std::int64_t of_blocks = 0;  // each sector once a block, whose own cache keeps it: L2's traffic
};

struct KernelCount {
  std::int64_t runs = 0;
  Bytes read{}, written{};  // of device memory; only in the race-check build
};

struct ProductCount {
  std::int64_t runs = 0;
  std::int64_t flops = 0;  // 2·m·n·k each
  std::int64_t bytes = 0;  // of factors and results, of which those that are added to count twice
};

struct Counters {
  std::int64_t launches = 0;        // of kernels by the host; replayed ones are not in it
  std::int64_t graph_launches = 0;  // cudaGraphLaunch
  std::int64_t captures = 0;        // graphs instantiated
  std::int64_t allocations = 0;     // device and page-locked
  // Waits of the host for a stream or an event: in a call, or by asking again and again for nothing
  // else. Those at whose end the device has no work left are drains as well.
  std::int64_t host_waits = 0;
  std::int64_t drains = 0;
  std::int64_t uploads = 0;                          // copies from the host
  std::int64_t kernels = 0;                          // run, replayed ones too
  std::int64_t products = 0;                         // matrix products run, replayed ones too
  std::int64_t product_flops = 0;                    // of those, 2·m·n·k each
  std::int64_t collectives = 0;                      // calls of NCCL that move data
  std::map<std::string, KernelCount> by_kernel{};    // by where it is launched: "stack.cu:118"
  std::map<std::string, ProductCount> by_product{};  // by rows x inner x columns: "20x1500x6000"
};
Counters& counters();

// A line for CUDA_ON_CPU_TRACE.
void trace(const std::string& line);

}  // namespace ptb::cuda_on_cpu
