// A pool of events, and copies to and from host memory on streams of their own.
#pragma once

#include <memory>
#include <vector>

#include "backend/cuda/handles.hpp"
#include "ptb_dist/backend/backend.hpp"

namespace ptb::cuda {

// The pool of the interface's Events. An Event returns when its last owner drops it, so the pool
// grows only to the number of Events in use at a time.
class EventPool {
 public:
  // An Event after the stream's present work.
  Event record(cudaStream_t stream);
  // The CUDA event of an Event that is not null and that a pool has made (70).
  static cudaEvent_t handle(const Event& event);

 private:
  using Idle = std::vector<CudaEvent>;
  class Lent;

  std::shared_ptr<Idle> idle_ = std::make_shared<Idle>();  // an Event may outlive the pool
};

class CudaHostCopies final : public HostCopies {
 public:
  explicit CudaHostCopies(EventPool& events);

  std::shared_ptr<std::byte> allocate(std::size_t bytes) override;
  Event fetch(const Tensor& from, std::byte* to, const Event& ready) override;
  Event put(const std::byte* from, const Tensor& to) override;

 private:
  EventPool& events_;
  Stream to_host_, to_device_;  // two, because a bus carries both directions at once
};

}  // namespace ptb::cuda
