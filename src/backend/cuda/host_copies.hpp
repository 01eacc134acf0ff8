// Events that are used again and again, and copies to and from host memory on streams of their own.
#pragma once

#include <memory>
#include <vector>

#include "backend/cuda/handles.hpp"
#include "ptb_dist/backend/backend.hpp"

namespace ptb::cuda {

// Hands out the Events of the interface. They return when their last owner lets go, so that a step
// creates none once as many as are ever in use have been made.
class EventPool {
 public:
  // A point behind the stream's work of now.
  Event record(cudaStream_t stream);
  // Of an Event that is not null and of a pool (70).
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
  Stream to_host_, to_device_;  // a bus carries both ways at once
};

}  // namespace ptb::cuda
