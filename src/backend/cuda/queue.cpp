#include "backend/cuda/queue.hpp"

namespace ptb::cuda {

Queue::Queue(Precision precision, int generation, const WeightCopies& copies)
    : stream_(make_stream()),
      reached_(make_event()),
      products_(precision, generation, stream_.get(), copies) {}

void Queue::wait_for(const Queue& other) {
  if (this == &other) return;
  check(cudaEventRecord(other.reached_.get(), other.stream()));
  check(cudaStreamWaitEvent(stream(), other.reached_.get(), 0));
}

}  // namespace ptb::cuda
