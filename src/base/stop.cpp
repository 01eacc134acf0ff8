#include "ptb_dist/base/stop.hpp"

#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "ptb_dist/base/error.hpp"

namespace ptb {
namespace {

std::atomic<int> first_signal{0};
std::atomic<int> interrupts{0};
static_assert(std::atomic<int>::is_always_lock_free, "a handler may only touch what has no lock");

// A handler may call little more than _exit: everything else is left to the loop.
void note(int signal) {
  int none = 0;
  first_signal.compare_exchange_strong(none, signal);
  if (signal == SIGINT && interrupts.fetch_add(1) > 0) {
    ::_exit(static_cast<int>(ExitCode::interrupted));
  }
}

void handle_with(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;  // a read or write under way is not cut short
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT}) ::sigaction(signal, &action, nullptr);
}

}  // namespace

void catch_stop_signals() { handle_with(note); }

void release_stop_signals() {
  handle_with(SIG_DFL);
  if (const int signal = first_signal.load(); signal != 0) ::raise(signal);
}

bool is_stop_requested() { return first_signal.load(std::memory_order_relaxed) != 0; }

std::string stop_signal() {
  switch (first_signal.load(std::memory_order_relaxed)) {
    case SIGUSR1:
      return "SIGUSR1";
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    default:
      return "";
  }
}

}  // namespace ptb
