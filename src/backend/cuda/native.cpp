#include "backend/cuda/native.hpp"

namespace ptb::cuda {

void SideStream::wait(const Event& event) {
  if (event == nullptr) return;
  check(cudaStreamWaitEvent(stream_.get(), EventPool::handle(event), 0));
}

void SideStream::add(void* to, const void* from, std::int64_t elements, ElementType type) {
  add_on(stream_.get(), to, from, elements, type);
}

}  // namespace ptb::cuda
