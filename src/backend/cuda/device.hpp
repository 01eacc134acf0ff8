// The GPU of a rank, and whether it can be used.
#pragma once

#include <string>

#include "backend/cuda/door.hpp"
#include "backend/cuda/products.hpp"
#include "ptb_dist/backend/backend.hpp"

namespace ptb::cuda {

struct Device {
  int index = 0;              // as CUDA counts, within CUDA_VISIBLE_DEVICES
  int generation = 0;         // major compute capability: 8 Ampere, 9 Hopper
  int variant = 0;            // minor compute capability
  double cycles = 0;          // of all multiprocessors together, in a second at the highest clock
  std::string description{};  // "NVIDIA H100 80GB HBM3 (sm_90, 132 SMs)"
  PhysicalDevice physical{};
};

// The device's peak rate of products in operations per second, at its highest clock: without
// sparsity, on tensor cores except for fp32 (NVIDIA's whitepapers on A100 and H100). 0 for devices
// of other architectures.
double peak_flops(const Device& device, Precision precision);

CudaLook look_for_cuda();  // door.hpp; begins no work on any device

// Makes the device of this rank current in the calling thread: number host_rank mod n of the n that
// CUDA_VISIBLE_DEVICES leaves. A launcher that binds a device to each rank shows each rank only
// one. The communicator decides whether ranks may share a device. Error 69 if there is no driver or
// no device, if the driver is too old, or if no kernel is for the device's architecture.
Device use_device(int host_rank);

}  // namespace ptb::cuda
