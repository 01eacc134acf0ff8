// The program from command line to exit status: the wiring of all parts.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/comm/communicator.hpp"

namespace ptb {

// What the program is made with. Parameters, so that the tests can run all of it on parts of their
// own.
struct Factories {
  std::function<std::unique_ptr<Backend>(const BackendOptions&)> backend = make_backend;
  std::function<std::unique_ptr<Communicator>(const std::string&, Session&, Backend&, SumOrder)>
      communicator = make_communicator;
};

// Runs what the command line asks for and returns the exit status. Errors are printed, one line
// each; those of one rank alone end all ranks.
int run_program(int argc, char** argv, const Factories& factories);

}  // namespace ptb
