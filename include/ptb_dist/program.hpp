// The program from command line to exit status: the wiring of all parts.
#pragma once

#include <functional>
#include <memory>

#include "ptb_dist/backend/backend.hpp"

namespace ptb {

using BackendFactory = std::function<std::unique_ptr<Backend>(const BackendOptions&)>;

// Runs what the command line asks for and returns the exit status. Errors are printed, one line
// each; those of one rank alone end all ranks. The factory is a parameter so that the tests can run
// the whole program on a backend of their own.
int run_program(int argc, char** argv, const BackendFactory& factory);

}  // namespace ptb
