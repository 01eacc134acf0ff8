// State that the functions of the runtime share.
#pragma once

#include <cuda_runtime_api.h>

namespace ptb::cuda_on_cpu {

// Remembers an error for cudaGetLastError, and returns it.
cudaError_t report(cudaError_t status);
// For calls that begin work: ends the process where an error that was told and not forgotten is
// still there. Whoever asked for the last one behind this call would take it for this call's.
void require_no_error_left();
// Every call returns `status` from here on, as after a kernel that failed.
void break_device(cudaError_t status);
// The one that cudaSetDevice chose, by the host's number.
int current_device();
// The status of a broken device; cudaSuccess otherwise.
cudaError_t device_status();

}  // namespace ptb::cuda_on_cpu
