// The CUDA backend's only door: what the rest of the program may know of it, built or not.
#pragma once

#include <memory>
#include <string>

#include "ptb_dist/backend/backend.hpp"

namespace ptb {

// Whether a device can be used here and now. If not, why, where a user may have expected one: an
// NVIDIA driver is there, and CUDA_VISIBLE_DEVICES does not say none.
struct CudaLook {
  bool is_usable = false;
  std::string why_not{};
};
CudaLook look_for_cuda();

// How streams overlap the work of a window: what measurements vary, no setting of the program. In
// other pieces products have other shapes, and so may round otherwise; queues change no bit.
struct Overlap {
  // Steps that one layer of the stack passes on to the next at a time, >= 1. With shorter pieces
  // the next layer begins sooner; with longer ones the products between layers read the weights
  // less often. Windows of 20 and 35 steps have 4 and 7; from T on, layers run one after the other.
  int piece = 5;
  // Streams, >= 1. Three: two layers, or two products and a sum.
  int queues = 3;
};

// Error 69 where CUDA is not part of this build, or the device or its driver is missing.
std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options,
                                           const Overlap& overlap = {});

}  // namespace ptb
