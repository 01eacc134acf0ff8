#include "backend/cuda/handles.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "ptb_dist/base/error.hpp"
#include "ptb_dist/base/units.hpp"

namespace ptb::cuda {

Stream make_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return Stream(stream);
}

CudaEvent make_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return CudaEvent(event);
}

bool has_happened(cudaEvent_t event) {
  const cudaError_t status = cudaEventQuery(event);
  if (status == cudaErrorNotReady) {
    cudaGetLastError();  // "not ready" is kept, too: else the next check would report it
    return false;
  }
  check(status);
  return true;
}

CublasHandle make_cublas(cudaStream_t stream) {
  cublasHandle_t handle = nullptr;
  check(cublasCreate(&handle));
  CublasHandle owner(handle);
  check(cublasSetStream(handle, stream));
  return owner;
}

std::shared_ptr<std::byte> allocate_device(std::size_t bytes, const std::string& what) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, std::max<std::size_t>(bytes, 1));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total));
    throw Error(ExitCode::missing,
                {.what = "out of GPU memory",
                 .where = what,
                 .why = fmt::format("{} are wanted, {} of {} are free",
                                    bytes_text(static_cast<std::int64_t>(bytes)),
                                    bytes_text(static_cast<std::int64_t>(free)),
                                    bytes_text(static_cast<std::int64_t>(total))),
                 .remedy = "use a smaller model, fewer lanes, or more GPUs with --scaling strong"});
  }
  check(status);
  return {static_cast<std::byte*>(memory), [](std::byte* p) { log_failure(cudaFree(p)); }};
}

std::shared_ptr<std::byte> allocate_pinned(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaHostAlloc(&memory, std::max<std::size_t>(bytes, 1), cudaHostAllocDefault));
  return {static_cast<std::byte*>(memory), [](std::byte* p) { log_failure(cudaFreeHost(p)); }};
}

}  // namespace ptb::cuda
