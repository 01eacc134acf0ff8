// Copies between pageable host memory and the device. An upload does not make the host wait: its
// bytes go into page-locked memory first, a ring of two halves. A download into memory of the
// ArrivalPool does not make it wait either.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "backend/cuda/handles.hpp"

namespace ptb::cuda {

class Staging {
 public:
  explicit Staging(cudaStream_t stream);

  // Enqueues; `from` may be reused at once. The host waits only if the device is a whole half of
  // the ring behind.
  void upload(void* to, std::span<const std::byte> from);
  // Waits for all work of the stream.
  void download(const void* from, std::span<std::byte> to);

 private:
  struct Half {
    std::shared_ptr<std::byte> memory;
    CudaEvent copied;  // the copies of everything in this half have ended
  };

  void begin_half();

  cudaStream_t stream_;
  Half halves_[2];
  int half_ = 0;
  std::size_t used_ = 0;  // bytes of the current half
  std::shared_ptr<std::byte> downloaded_;
};

// Page-locked memory for the few scalars of a step. A piece returns when its last owner drops it. A
// copy into it that has not ended yet comes before that of the next owner, on the same stream.
class ArrivalPool {
 public:
  static constexpr std::size_t kBytes = 64;
  // bytes <= kBytes.
  std::shared_ptr<std::byte> take(std::size_t bytes);

 private:
  using Idle = std::vector<std::shared_ptr<std::byte>>;

  std::shared_ptr<Idle> idle_ = std::make_shared<Idle>();  // memory may outlive the pool
};

}  // namespace ptb::cuda
