#include "backend/cuda/host_copies.hpp"

#include <utility>

namespace ptb::cuda {

class EventPool::Lent final : public RecordedEvent {
 public:
  Lent(CudaEvent event, std::shared_ptr<Idle> idle)
      : event_(std::move(event)), idle_(std::move(idle)) {}
  ~Lent() override { idle_->push_back(std::move(event_)); }
  Lent(const Lent&) = delete;
  Lent& operator=(const Lent&) = delete;

  cudaEvent_t get() const { return event_.get(); }

 private:
  CudaEvent event_;
  std::shared_ptr<Idle> idle_;
};

Event EventPool::record(cudaStream_t stream) {
  if (idle_->empty()) idle_->push_back(make_event());
  CudaEvent event = std::move(idle_->back());
  idle_->pop_back();
  check(cudaEventRecord(event.get(), stream));
  return std::make_shared<const Lent>(std::move(event), idle_);
}

cudaEvent_t EventPool::handle(const Event& event) {
  const auto* lent = dynamic_cast<const Lent*>(event.get());
  require(lent != nullptr, "an event is waited for by the backend that recorded it");
  return lent->get();
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
