// ptb_dist_reference: the whole trainer on the naive reference backend, in double. A test program,
// never installed; "in double" in the tests and documents means this one.
//
//   mpirun -np 4 ptb_dist_reference --config small --max-windows 20
//
// It takes every flag of ptb_dist; --backend, --precision and --threads change nothing. A window of
// the small model takes about a second.
#include "ptb_dist/program.hpp"
#include "support/reference_backend.hpp"

int main(int argc, char** argv) {
  return ptb::run_program(argc, argv, {.backend = [](const ptb::BackendOptions&) {
                            return ptb::make_reference_backend();
                          }});
}
