// ptb_dist_cuda_on_cpu: the whole trainer, its CUDA backend on the emulation. Linked to the backend
// for GPUs instead it is ptb_dist_graphs_or_not. Test programs, never installed.
//
//   mpirun -np 2 ptb_dist_cuda_on_cpu --backend cuda --comm mpi --config test --data synthetic
//
// It takes every flag of ptb_dist, and the variables of control.hpp; CUDA_ON_CPU_GRAPHS=0 runs the
// segments of a step piece by piece instead of replaying them.
#include <cstdlib>
#include <string_view>

#include "ptb_dist/program.hpp"

int main(int argc, char** argv) {
  const char* graphs = std::getenv("CUDA_ON_CPU_GRAPHS");
  const bool captures = graphs == nullptr || std::string_view(graphs) != "0";
  return ptb::run_program(argc, argv, {.backend = [captures](ptb::BackendOptions options) {
                            options.captures_segments = captures;
                            return ptb::make_backend(options);
                          }});
}
