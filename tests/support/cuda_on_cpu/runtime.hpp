// State that the functions of the runtime share.
#pragma once

#include <cuda_runtime_api.h>

namespace ptb::cuda_on_cpu {

// Remembers an error for cudaGetLastError, and returns it.
cudaError_t report(cudaError_t status);
// Every call returns `status` from here on, as after a kernel that failed.
void break_device(cudaError_t status);
// The one that cudaSetDevice chose, by the host's number.
int current_device();
// The status of a broken device; cudaSuccess otherwise.
cudaError_t device_status();

}  // namespace ptb::cuda_on_cpu
