// Where the model runs, with whom, and with how many threads.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/base/config.hpp"
#include "ptb_dist/comm/communicator.hpp"
#include "ptb_dist/comm/session.hpp"

namespace ptb {

// How the program makes its backend and its communicator. Tests pass their own.
struct Factories {
  std::function<std::unique_ptr<Backend>(const BackendOptions&)> backend = make_backend;
  std::function<std::unique_ptr<Communicator>(const std::string&, Session&, Backend&, SumOrder)>
      communicator = make_communicator;
};

struct Machine {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Communicator> communicator;
  int threads = 1;

  // On root alone: the host of each rank; for the log, what each rank has of the machine, and
  // warnings about that.
  std::vector<std::string> hosts{}, lines{}, warnings{};
  double peak_flops = 0;   // of all GPUs together, in the backend's precision; 0: not known
  int ranks_on_a_gpu = 1;  // at most
};
// Collective. Error 69 if something is missing, on one rank or on all; AgreedError 2 if ranks
// differ.
Machine make_machine(Session& session, const Config& config, const Factories& factories);

}  // namespace ptb
