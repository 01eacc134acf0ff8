// Which GPU a rank uses, and whether it can be used at all.
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

// Operations of products per second that the device can do at most, at its highest clock: without
// sparsity, by tensor cores but for fp32 (NVIDIA's whitepapers on A100 and H100). 0 for a device of
// another architecture than these have.
double peak_flops(const Device& device, Precision precision);

CudaLook look_for_cuda();  // door.hpp; it begins no work on any device

// Makes the device of this rank current in the calling thread: number `host_rank` among those that
// CUDA_VISIBLE_DEVICES leaves, from the first again when they are out: a launcher that binds one to
// each rank shows each a single one. Whether ranks may share is the communicator's to say. Error 69
// where there is no driver, no device, a driver too old or no kernel for its architecture.
Device use_device(int host_rank);

}  // namespace ptb::cuda
