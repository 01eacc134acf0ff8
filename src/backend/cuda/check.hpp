// Every call of the CUDA runtime and of cuBLAS goes through one of these functions.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <source_location>
#include <string>

namespace ptb::cuda {

// Error 69 if the machine lacks something (driver, device, memory, code for its architecture, a
// service of the node), 70 for any other failure. That may be a failure of earlier work, because
// launches and copies report late. Afterwards the runtime has forgotten the failure.
void check(cudaError_t status, std::source_location where = std::source_location::current());
void check(cublasStatus_t status, std::source_location where = std::source_location::current());

// The same for the first calls of a process, which find out whether it can use a GPU. No earlier
// work can have failed, so every failure is 69.
void check_machine(cudaError_t status,
                   std::source_location where = std::source_location::current());

// For destructors and deleters, which must not throw: prints a line on standard error.
void log_failure(cudaError_t status,
                 std::source_location where = std::source_location::current()) noexcept;
void log_failure(cublasStatus_t status,
                 std::source_location where = std::source_location::current()) noexcept;

}  // namespace ptb::cuda
