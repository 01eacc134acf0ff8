// Which GPU a rank uses, and whether it can be used at all.
#pragma once

#include <string>

namespace ptb::cuda {

struct Device {
  int index = 0;              // as CUDA counts, within CUDA_VISIBLE_DEVICES
  int generation = 0;         // major compute capability: 8 Ampere, 9 Hopper
  std::string description{};  // "NVIDIA H100 80GB HBM3 (sm_90, 132 SMs)"
};

// Devices that can be used; 0 without a word where there is no driver or none that fits.
int count_devices();

// Makes the device of this rank current in the calling thread: number `host_rank` among those that
// CUDA_VISIBLE_DEVICES leaves, so that a launcher that binds one to each rank is respected. With
// fewer devices than ranks on a host, ranks share them in turn if `may_share`. Error 69 otherwise,
// and where there is no driver, no device, a driver too old or no kernel for its architecture.
Device use_device(int host_rank, bool may_share);

}  // namespace ptb::cuda
