// The program, except that it ignores requests to stop, so that a whole run can receive a storm of
// them. It is built as ptb_dist_deaf, with handler_stacks.cpp as the program is, and without it as
// ptb_dist_bare, which shows that storms can do harm. Never installed.
//
//   PTB_DIST_HANDLES_USR1=1   USR1 is handled by the thread that computes, as it never is
#include <signal.h>

#include <cstdlib>

#include "ptb_dist/base/stop.hpp"
#include "ptb_dist/program.hpp"

namespace ptb {

// In place of the program's own: the linker takes the first that it meets.
bool is_stop_requested() { return false; }

}  // namespace ptb

int main(int argc, char** argv) {
  if (std::getenv("PTB_DIST_HANDLES_USR1") != nullptr) {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGUSR1, &action, nullptr);
    sigset_t usr1;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    ::sigprocmask(SIG_UNBLOCK, &usr1, nullptr);
  }
  return ptb::run_program(argc, argv, {});
}
