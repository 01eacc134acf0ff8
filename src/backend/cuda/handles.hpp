// Owners of handles of the CUDA runtime and of cuBLAS. Each frees its handle, and can be moved but
// not copied. A moved-from owner is empty. All streams are non-blocking; the default stream is not
// used, because it waits for all others.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

#include "backend/cuda/check.hpp"

namespace ptb::cuda {

// A handle that is a pointer, freed by `Free`.
template <class Handle, auto Free>
struct FreeHandle {
  void operator()(Handle handle) const noexcept { log_failure(Free(handle)); }
};
template <class Handle, auto Free>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, FreeHandle<Handle, Free>>;

using Stream = Owned<cudaStream_t, &cudaStreamDestroy>;
using CudaEvent = Owned<cudaEvent_t, &cudaEventDestroy>;
using Graph = Owned<cudaGraph_t, &cudaGraphDestroy>;
using GraphExec = Owned<cudaGraphExec_t, &cudaGraphExecDestroy>;
using CublasHandle = Owned<cublasHandle_t, &cublasDestroy>;

Stream make_stream();
CudaEvent make_event();                // for ordering, without time stamps
bool has_happened(cudaEvent_t event);  // true, too, if never recorded; does not wait
CublasHandle make_cublas(cudaStream_t stream);

// Device memory, not initialised. Error 69 if there is not enough; the message has the bytes wanted
// and free, and `what` the memory is for.
std::shared_ptr<std::byte> allocate_device(std::size_t bytes, const std::string& what);
// Page-locked host memory, which asynchronous copies need.
std::shared_ptr<std::byte> allocate_pinned(std::size_t bytes);

}  // namespace ptb::cuda
