#include "backend/cuda/host_copies.hpp"

namespace ptb::cuda {

Event EventPool::record(cudaStream_t stream) {
  if (idle_->empty()) idle_->push_back(make_event());
  CudaEvent event = std::move(idle_->back());
  idle_->pop_back();
  check(cudaEventRecord(event.get(), stream));
  return {event.release(), [idle = idle_](void* used) {
            idle->push_back(CudaEvent(static_cast<cudaEvent_t>(used)));
          }};
}

CudaHostCopies::CudaHostCopies(EventPool& events)
    : events_(events), to_host_(make_stream()), to_device_(make_stream()) {}

std::shared_ptr<std::byte> CudaHostCopies::allocate(std::size_t bytes) {
  return allocate_pinned(bytes);
}

Event CudaHostCopies::fetch(const Tensor& from, std::byte* to, const Event& ready) {
  if (ready != nullptr) {
    check(cudaStreamWaitEvent(to_host_.get(), EventPool::handle(ready), 0));
  }
  check(cudaMemcpyAsync(to, from.raw(), from.bytes(), cudaMemcpyDeviceToHost, to_host_.get()));
  return events_.record(to_host_.get());
}

Event CudaHostCopies::put(const std::byte* from, const Tensor& to) {
  check(cudaMemcpyAsync(to.raw(), from, to.bytes(), cudaMemcpyHostToDevice, to_device_.get()));
  return events_.record(to_device_.get());
}

}  // namespace ptb::cuda
