// Stands for the CUDA backend in a build without it.
#include "backend/cuda/cuda_backend.hpp"

namespace ptb {

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions&) {
  throw Error(ExitCode::missing, {.what = "the CUDA backend is not part of this program",
                                  .where = "backend = cuda",
                                  .why = "this version is built for the CPU only",
                                  .remedy = "use --backend cpu"});
}

}  // namespace ptb
