// ptb_dist: trains LSTM language models on the Penn Treebank, data-parallel over MPI ranks.
//
//   mpirun -np 8 ptb_dist --config large        (ptb_dist --help explains all flags)
#include "ptb_dist/program.hpp"

int main(int argc, char** argv) { return ptb::run_program(argc, argv, {}); }
