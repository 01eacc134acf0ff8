// Replaces the CUDA backend in a build without it.
#include "backend/cuda/door.hpp"

namespace ptb {

CudaLook look_for_cuda() { return {}; }

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions&, const Overlap&) {
  throw Error(ExitCode::missing,
              {.what = "the CUDA backend is not part of this program",
               .where = "backend = cuda",
               .why = "it was built without a CUDA toolkit",
               .remedy = "use --backend cpu, or build with nvcc on the PATH (PTB_DIST_CUDA=ON)"});
}

}  // namespace ptb
