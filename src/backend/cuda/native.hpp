// For NCCL, which enqueues work of its own beside the backend's: a stream that Events order with
// the backend's, and addition on it.
#pragma once

#include <cstdint>

#include "backend/cuda/handles.hpp"
#include "backend/cuda/host_copies.hpp"

namespace ptb::cuda {

// On the device that is current in the calling thread.
class SideStream {
 public:
  SideStream() : stream_(make_stream()) {}

  cudaStream_t get() const { return stream_.get(); }
  // Later work of this stream waits for `event`; the host does not.
  void wait(const Event& event);
  // An Event after the stream's present work.
  Event record() { return events_.record(stream_.get()); }
  // to[k] += from[k] for k < elements, of f32 or f64 in device memory.
  void add(void* to, const void* from, std::int64_t elements, ElementType type);

 private:
  Stream stream_;
  EventPool events_;
};

// Addition::to += from; CudaBackend::add and SideStream::add call it (optimizer.cu).
void add_on(cudaStream_t stream, void* to, const void* from, std::int64_t elements,
            ElementType type);

}  // namespace ptb::cuda
