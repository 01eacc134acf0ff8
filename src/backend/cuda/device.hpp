// Which GPU a rank uses, and whether it can be used at all.
#pragma once

#include <string>

#include "ptb_dist/backend/backend.hpp"

namespace ptb::cuda {

struct Device {
  int index = 0;              // as CUDA counts, within CUDA_VISIBLE_DEVICES
  int generation = 0;         // major compute capability: 8 Ampere, 9 Hopper
  std::string description{};  // "NVIDIA H100 80GB HBM3 (sm_90, 132 SMs)"
  PhysicalDevice physical{};
};

// Devices that can be used; 0 without a word where there is no driver or none that fits.
int count_devices();

// Makes the device of this rank current in the calling thread: number `host_rank` among those that
// CUDA_VISIBLE_DEVICES leaves, from the first again when they are out: a launcher that binds one to
// each rank shows each a single one. Whether ranks may share is the communicator's to say. Error 69
// where there is no driver, no device, a driver too old or no kernel for its architecture.
Device use_device(int host_rank);

}  // namespace ptb::cuda
