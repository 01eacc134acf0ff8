// The CUDA backend's only door: what the rest of the program may know of it, built or not.
#pragma once

#include <memory>

#include "ptb_dist/backend/backend.hpp"

namespace ptb {

// Whether a device can be used here and now; without a word if not.
bool cuda_is_usable();

// Error 69 where CUDA is not part of this build, or the device or its driver is missing.
std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options);

}  // namespace ptb
