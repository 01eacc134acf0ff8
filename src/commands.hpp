// What the command line can ask for, each in a file of its own: the wiring of the parts.
#pragma once

#include <memory>
#include <string>

#include "ptb_dist/base/command_line.hpp"
#include "ptb_dist/comm/communicator.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/program.hpp"

namespace ptb {

// Each is collective and returns the exit status.
int train_command(Session& session, const CommandLine& line, const Factories& factories);
int eval_command(Session& session, const CommandLine& line, const Factories& factories);
int checkpoint_command(Session& session, const CommandLine& line);

// On standard output. Error 74 if it cannot be written, but nobody need be there to read it. A late
// reader is waited for at the end of the process, when no other rank waits for this one. A line
// may hold names that a user gave: its control characters are escaped (one_line). A text has lines
// of its own; whoever makes it escapes what it quotes.
void print_line(const std::string& line);
void print_text(const std::string& text);

// Where the model runs, with whom, and with how many threads. Collective.
struct Machine {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Communicator> communicator;
  int threads = 1;

  // Of root alone. By rank, the host; for the log, which rank has which GPU, and what is odd about it.
  std::vector<std::string> hosts{}, seats{}, warnings{};
  double peak_flops = 0;   // of all GPUs together, in the backend's precision; 0: not known
  int ranks_on_a_gpu = 1;  // at most
};
Machine make_machine(Session& session, const Config& config, const Factories& factories);

}  // namespace ptb
