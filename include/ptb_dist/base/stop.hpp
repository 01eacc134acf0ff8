// The wish of a user or a scheduler that the run stop: a flag that signals set and the training
// loop reads at the end of a window, when all ranks agree on it.
#pragma once

#include <string>

namespace ptb {

// From now on SIGUSR1, SIGTERM and SIGINT only set the flag; a second SIGINT ends the process at
// once with 130. Called first of all, so that a signal in the first second is a wish like any other.
void catch_stop_signals();
// Undoes it where nothing is trained: a signal that came ends the process now.
void release_stop_signals();

// Whether one of them came.
bool is_stop_requested();
// "SIGUSR1", the first that came; empty if none did.
std::string stop_signal();

}  // namespace ptb
