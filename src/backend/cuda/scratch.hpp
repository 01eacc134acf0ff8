// Device memory for what lives within one operation.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "backend/cuda/handles.hpp"

namespace ptb::cuda {

// Grows when more is asked for than ever before, which a run's first steps do. A block that has
// become too small is kept: a captured graph may have its address.
class Scratch {
 public:
  // `count` values of T whose contents have no meaning, until the next call.
  template <class T>
  T* get(std::size_t count) {
    const std::size_t bytes = count * sizeof(T);
    if (blocks_.empty() || bytes > bytes_) {
      blocks_.push_back(allocate_device(bytes, "scratch memory of an operation"));
      bytes_ = bytes;
    }
    return reinterpret_cast<T*>(blocks_.back().get());
  }

 private:
  std::vector<std::shared_ptr<std::byte>> blocks_;
  std::size_t bytes_ = 0;  // of the last block
};

}  // namespace ptb::cuda
