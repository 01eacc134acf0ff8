// A stream with a cuBLAS of its own, so that products of different streams share no workspace.
#pragma once

#include "backend/cuda/handles.hpp"
#include "backend/cuda/products.hpp"

namespace ptb::cuda {

class Queue {
 public:
  // `generation` of the device (device.hpp). `copies` outlive the queue.
  Queue(Precision precision, int generation, const WeightCopies& copies);

  cudaStream_t stream() const { return stream_.get(); }
  Products& products() { return products_; }
  const Products& products() const { return products_; }

  // Later work of this queue waits for all present work of `other`, which may be this queue.
  void wait_for(const Queue& other);

 private:
  Stream stream_;
  CudaEvent reached_;
  Products products_;
};

}  // namespace ptb::cuda
