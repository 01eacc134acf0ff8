// The commands of the program, each in a file of its own. They put the parts together.
#pragma once

#include <string>

#include "ptb_dist/base/command_line.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/run/machine.hpp"

namespace ptb {

// Each is collective and returns the exit status.
int train_command(Session& session, const CommandLine& line, const Factories& factories);
int eval_command(Session& session, const CommandLine& line, const Factories& factories);
int checkpoint_command(Session& session, const CommandLine& line);

// Print on standard output. Error 74 if it cannot be written; a reader that has gone is no error.
// The end of the process waits for a slow reader, when no other rank waits for this one. In a line
// control characters are escaped (one_line), because it may quote names of a user. A text has
// several lines; its author must escape what it quotes.
void print_line(const std::string& line);
void print_text(const std::string& text);

}  // namespace ptb
