// Requests of a user or a scheduler to stop the run: USR1, USR2, TERM, INT, HUP and XCPU, or time
// that is running out. The training loop reads them at the end of a window, where all ranks agree
// on them.
//
// These signals have no handler. It would run on the stack of a thread that computes, and oneDNN
// 2's matrix products let the stack pointer point into their data: the handler would overwrite it.
// Instead every thread blocks the signals, from before main on, and one thread waits for them.
#pragma once

#include <string>

namespace ptb {

// Blocks the signals in the calling thread and in all threads that it starts. Called before main
// and before any other thread exists; until then, while libraries are loaded, a signal ends the
// process. INT and HUP stay ignored if they are ignored when the process starts (nohup; a script's
// `&`). The other signals are taken even then, because their sender means this process.
void block_stop_signals() noexcept;

// From now on a signal sets the flag. So does a signal that came while they were blocked. A second
// INT ends the process at once with 130. A process that fork() starts has the signals as they were
// before they were blocked. Called once, before MPI is initialised. Throws Error (69) if no thread
// can be started.
void catch_stop_signals();

// Undoes this for commands that train nothing: a signal, past or future, ends the process.
void release_stop_signals();

// The same request without a signal; the first reason stays. Of any thread.
void request_stop(const std::string& reason);

// Whether a signal or such a request came.
bool is_stop_requested();
// "SIGUSR1", the first that came, else the reason without a signal; empty if none did.
std::string stop_reason();

}  // namespace ptb
