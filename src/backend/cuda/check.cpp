#include "backend/cuda/check.hpp"

#include <fmt/format.h>

#include <string_view>

#include "ptb_dist/base/console.hpp"
#include "ptb_dist/base/error.hpp"

namespace ptb::cuda {
namespace {

// "stack.cu:91": the folders of the machine that built the program tell a user nothing.
std::string place(const std::source_location& where) {
  const std::string_view path = where.file_name();
  return fmt::format("{}:{}", path.substr(path.rfind('/') + 1), where.line());
}

void warn(const char* status, const std::source_location& where) {
  console::write(console::Stream::error,
                 fmt::format("ptb_dist: warning: {}: {}\n", place(where), status));
}

std::string text_of(cudaError_t status) {
  return fmt::format("{} ({}): {}", cudaGetErrorName(status), static_cast<int>(status),
                     cudaGetErrorString(status));
}

// What the user can mend, by the status that says it.
Error missing(cudaError_t status, const std::string& where) {
  Complaint complaint{.what = "the GPU cannot be used", .where = where, .why = text_of(status)};
  if (status == cudaErrorMemoryAllocation) {
    complaint.what = "out of memory on the GPU's side";
    complaint.remedy = "use a smaller model, fewer lanes or more GPUs";
  } else if (status == cudaErrorNoKernelImageForDevice) {
    complaint.what = "this program has no code for this GPU's architecture";
    complaint.remedy = "build with -DCMAKE_CUDA_ARCHITECTURES=<its compute capability, as 90>";
  } else {
    complaint.remedy = "install a driver that nvidia-smi accepts, or use --backend cpu";
  }
  return {ExitCode::missing, complaint};
}

bool is_for_the_user(cudaError_t status) {
  return status == cudaErrorMemoryAllocation || status == cudaErrorNoKernelImageForDevice ||
         status == cudaErrorInsufficientDriver || status == cudaErrorNoDevice;
}

Error broken(const char* what, const std::string& where, const std::string& why) {
  return {ExitCode::internal,
          Complaint{.what = what,
                    .where = where,
                    .why = why,
                    .remedy = "it may be an earlier launch's: CUDA_LAUNCH_BLOCKING=1 tells which"}};
}

}  // namespace

void check(cudaError_t status, std::source_location where) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next launch would tell of it again
  if (is_for_the_user(status)) throw missing(status, place(where));
  throw broken("a CUDA call failed", place(where), text_of(status));
}

void check(cublasStatus_t status, std::source_location where) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  if (status == CUBLAS_STATUS_ALLOC_FAILED) {
    throw missing(cudaErrorMemoryAllocation, place(where));
  }
  throw broken("a cuBLAS call failed", place(where), cublasGetStatusName(status));
}

void log_failure(cudaError_t status, std::source_location where) noexcept {
  if (status == cudaSuccess) return;
  warn(cudaGetErrorName(status), where);
}

void log_failure(cublasStatus_t status, std::source_location where) noexcept {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  warn(cublasGetStatusName(status), where);
}

}  // namespace ptb::cuda
