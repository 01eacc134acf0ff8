// The wish of a user or a scheduler that the run stop: USR1, USR2, TERM, INT, HUP and XCPU, or time
// that is running out. The training loop reads it at the end of a window, when all ranks agree on it.
//
// No handler is installed for them: it would run on the stack of a thread that computes, and
// oneDNN 2's matrix products let the stack pointer point into their data, which it would overwrite.
// The signals are blocked in every thread, from before main on, and one thread waits for them.
#pragma once

#include <string>

namespace ptb {

// Blocks them in the calling thread and in all that it starts. Called before any other thread
// exists, and before main: until then a signal ends the process, whose libraries are being loaded.
// INT and HUP stay ignored where they are when the process starts (nohup; a script's `&`); the
// others are taken even then, since only somebody who means this process sends them.
void block_stop_signals() noexcept;

// From now on a signal sets the flag, and so do those that came since they were blocked; a second
// INT ends the process at once with 130. What fork() starts has them as they were before they were
// blocked. Called once, before MPI is initialised. Throws Error (69) if no thread can be started.
void catch_stop_signals();

// Undoes it where nothing is trained: a signal that came, or comes, ends the process.
void release_stop_signals();

// The same wish without a signal; the first reason stays. Of any thread.
void request_stop(const std::string& reason);

// Whether one of them came.
bool is_stop_requested();
// "SIGUSR1", the first that came, else the reason without a signal; empty if none did.
std::string stop_reason();

}  // namespace ptb
