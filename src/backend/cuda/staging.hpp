// Copies between pageable host memory and the device. An upload does not make the host wait: it is
// put aside in page-locked memory, in a ring of two halves. Nor does a download to memory of the
// ArrivalPool.
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

  // Enqueues; `from` may be reused at once. The host waits only where the device is a whole half
  // behind.
  void upload(void* to, std::span<const std::byte> from);
  // Waits for all work of the stream.
  void download(const void* from, std::span<std::byte> to);

 private:
  struct Half {
    std::shared_ptr<std::byte> memory;
    CudaEvent copied;  // everything that was put into it has left
  };

  void begin_half();

  cudaStream_t stream_;
  Half halves_[2];
  int half_ = 0;
  std::size_t used_ = 0;  // of the half in hand
  std::shared_ptr<std::byte> downloaded_;
};

// Page-locked memory for the few scalars of a step. It returns when its last owner lets go; what is
// still on its way there then comes before what the same stream brings to its next owner.
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
