// What the command line can ask for, each in a file of its own: how the parts are put together.
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

// On standard output. Error 74 if it cannot be written; a reader that is gone is no error. A late
// reader is waited for at the end of the process, when no other rank waits for this one. A line may
// hold names that a user gave: its control characters are escaped (one_line). A text has lines of
// its own; whoever makes it escapes what it quotes.
void print_line(const std::string& line);
void print_text(const std::string& text);

}  // namespace ptb
