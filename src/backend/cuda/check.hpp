// Every call of the CUDA runtime and of cuBLAS goes through one of these.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <source_location>
#include <string>

namespace ptb::cuda {

// Error 69 where the machine lacks something (driver, device, memory, code for its architecture, a
// service of the node), 70 for any other failure, which may be that of earlier work: launches and
// copies are told late. The runtime has forgotten the failure afterwards.
void check(cudaError_t status, std::source_location where = std::source_location::current());
void check(cublasStatus_t status, std::source_location where = std::source_location::current());

// The same for a process' first calls, which find out whether there is a GPU to use: nothing has
// run yet that could have failed, so it is 69 whatever the status.
void check_machine(cudaError_t status,
                   std::source_location where = std::source_location::current());

// For destructors and deleters, which must not throw: a line on standard error instead.
void log_failure(cudaError_t status,
                 std::source_location where = std::source_location::current()) noexcept;
void log_failure(cublasStatus_t status,
                 std::source_location where = std::source_location::current()) noexcept;

}  // namespace ptb::cuda
