// ptb_dist_portable: the program, but that its bf16 on a CPU is that of
// support/portable_products.hpp, which every processor has. A test program, never installed.
#include "ptb_dist/program.hpp"
#include "support/portable_products.hpp"

int main(int argc, char** argv) {
  return ptb::run_program(argc, argv, {.backend = ptb::test::make_portable_backend});
}
