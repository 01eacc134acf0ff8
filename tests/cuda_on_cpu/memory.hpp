// Device memory is a range of addresses that the host cannot touch: in one of the three kinds of
// schedule it is open only while the device works. Fresh and freed memory is NaN. Page-locked
// memory is the host's.
#pragma once

#include <cstddef>

namespace ptb::cuda_on_cpu {

// Null if the device has not as many bytes free.
void* allocate_device_memory(std::size_t bytes);
// False if `address` is not what the call above gave.
bool free_device_memory(void* address);
std::size_t free_bytes();

void* allocate_pinned_memory(std::size_t bytes);
bool free_pinned_memory(void* address);

bool is_device(const void* address);
bool is_pinned(const void* address, std::size_t bytes);
// Whether all of it lies within one allocation.
bool is_allocated(const void* address, std::size_t bytes);

// Bounds of the range that device addresses are taken from, for the race check's shadow.
const unsigned char* device_begin();
std::size_t device_span();

// Opens device memory for as long as it lives; scopes may nest.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

}  // namespace ptb::cuda_on_cpu
