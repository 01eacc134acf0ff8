// The wish of a user or a scheduler that the run stop: a flag that signals set and the training
// loop reads at the end of a window, when all ranks agree on it.
#pragma once

#include <string>

namespace ptb {

// From now on SIGUSR1, SIGTERM and SIGINT only set the flag; a second SIGINT ends the process at
// once with 130. Called once, before the threads of the run begin.
void catch_stop_signals();

// Whether one of them came.
bool is_stop_requested();
// "SIGUSR1", the first that came; empty if none did.
std::string stop_signal();

}  // namespace ptb
