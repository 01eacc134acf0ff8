// The CUDA backend's only door.
#pragma once

#include <memory>

#include "ptb_dist/backend/backend.hpp"

namespace ptb {

// Error 69 where CUDA is not part of this build.
std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options);

}  // namespace ptb
