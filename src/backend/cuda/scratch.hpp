// Device memory for values that live within one operation.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "backend/cuda/handles.hpp"

namespace ptb::cuda {

// Grows if an operation asks for more than ever before, which happens in the first steps of a run.
// A block that has become too small is kept, because a captured graph may have its address.
class Scratch {
 public:
  // Room for `count` values of T, not initialised, valid until the next call.
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
