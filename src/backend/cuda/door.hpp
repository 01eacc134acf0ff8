// The public part of the CUDA backend, whether it is built or not. The rest of the program uses
// nothing else of it.
#pragma once

#include <memory>
#include <string>

#include "ptb_dist/backend/backend.hpp"

namespace ptb {

// Whether a device can be used here and now. If not, the reason, but only if a user may expect a
// GPU: there is an NVIDIA driver, and CUDA_VISIBLE_DEVICES does not exclude all devices.
struct CudaLook {
  bool is_usable = false;
  std::string why_not{};
};
CudaLook look_for_cuda();

// How streams overlap the work of a window. Measurements vary this; it is no setting of the
// program. With other pieces products have other shapes and may round differently; queues change no
// bit.
struct Overlap {
  // Steps that a layer of the stack passes to the next at a time, >= 1. With shorter pieces the
  // next layer begins sooner; with longer ones the products between layers read the weights less
  // often. Windows of 20 and 35 steps have 4 and 7 pieces. From T steps on, layers do not overlap.
  int piece = 5;
  // Streams, >= 1. Three: two layers, or two products and a sum.
  int queues = 3;
};

// Error 69 if CUDA is not part of this build, or if the device or its driver is missing.
std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options,
                                           const Overlap& overlap = {});

}  // namespace ptb
