// The program from command line to exit status.
#pragma once

#include "ptb_dist/run/machine.hpp"

namespace ptb {

// Runs what the command line asks for and returns the exit status. Errors are printed, one line
// each; an error of one rank alone ends all ranks.
int run_program(int argc, char** argv, const Factories& factories);

}  // namespace ptb
