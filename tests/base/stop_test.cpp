// Requests to stop: they are taken once they are blocked, and child processes are not affected.
// Every case has a process of its own, because it changes the process.
#include "ptb_dist/base/stop.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "ptb_dist/base/error.hpp"

namespace ptb {
namespace {

constexpr int kGood = 42;

// How a process that does only this ends: its exit status, or 1000 + the signal that ended it.
int ending_of(const std::function<int()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(30);  // a signal that is never taken
    ::_exit(work());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

void ignore(int signal) {
  struct sigaction action = {};
  action.sa_handler = SIG_IGN;
  ::sigaction(signal, &action, nullptr);
}

void start() {
  block_stop_signals();
  catch_stop_signals();
}

void send(int signal) { ::kill(::getpid(), signal); }

void wait_for_request() {
  while (!is_stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

bool is_blocked(int signal) {
  sigset_t mask;
  ::sigprocmask(SIG_BLOCK, nullptr, &mask);
  return sigismember(&mask, signal) != 0;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(stop)

BOOST_AUTO_TEST_CASE(each_signal_is_a_request) {
  for (const auto& [signal, name] :
       {std::pair{SIGUSR1, "SIGUSR1"}, std::pair{SIGUSR2, "SIGUSR2"}, std::pair{SIGTERM, "SIGTERM"},
        std::pair{SIGINT, "SIGINT"}, std::pair{SIGHUP, "SIGHUP"}, std::pair{SIGXCPU, "SIGXCPU"}}) {
    const int ending = ending_of([signal = signal, name = std::string(name)] {
      start();
      if (is_stop_requested() || !stop_reason().empty()) return 1;
      send(signal);
      wait_for_request();
      return stop_reason() == name ? kGood : 2;
    });
    BOOST_TEST(ending == kGood, name);
  }
}

BOOST_AUTO_TEST_CASE(a_wish_without_a_signal) {
  const int ending = ending_of([] {
    start();
    request_stop("the first");
    if (!is_stop_requested() || stop_reason() != "the first") return 1;
    request_stop("another");
    if (stop_reason() != "the first") return 2;
    send(SIGUSR1);  // may end the run as well
    while (stop_reason() != "SIGUSR1") std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return kGood;
  });
  BOOST_TEST(ending == kGood);
}

BOOST_AUTO_TEST_CASE(a_signal_before_there_is_a_thread_is_not_lost) {
  BOOST_TEST(ending_of([] {
               block_stop_signals();
               send(SIGUSR1);
               catch_stop_signals();
               wait_for_request();
               return kGood;
             }) == kGood);
}

BOOST_AUTO_TEST_CASE(the_second_interrupt_ends_at_once) {
  const int ending = ending_of([] {
    start();
    send(SIGINT);
    wait_for_request();
    send(SIGINT);
    for (;;) ::pause();
    return 1;
  });
  BOOST_TEST(ending == static_cast<int>(ExitCode::interrupted));
}

BOOST_AUTO_TEST_CASE(what_is_ignored_at_the_start) {
  for (const int ignored : {SIGHUP, SIGINT, SIGUSR1}) {
    const int ending = ending_of([ignored] {
      ignore(ignored);
      start();
      send(ignored);
      send(SIGTERM);
      wait_for_request();
      // Pending signals are taken in the order of their numbers, and TERM has the highest.
      return stop_reason() == (ignored == SIGUSR1 ? "SIGUSR1" : "SIGTERM") ? kGood : 1;
    });
    BOOST_TEST(ending == kGood, ignored);
  }
}

BOOST_AUTO_TEST_CASE(a_child_has_the_mask_of_before) {
  const int ending = ending_of([] {
    sigset_t usr2;
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    ::sigprocmask(SIG_BLOCK, &usr2, nullptr);
    start();
    if (!is_blocked(SIGUSR1)) return 1;
    return ending_of([] { return is_blocked(SIGUSR2) && !is_blocked(SIGUSR1) ? kGood : 2; });
  });
  BOOST_TEST(ending == kGood);
}

BOOST_AUTO_TEST_CASE(released_they_end_the_process) {
  BOOST_TEST(ending_of([] {
               start();
               release_stop_signals();
               send(SIGTERM);
               for (;;) ::pause();
               return 1;
             }) == 1000 + SIGTERM);
  BOOST_TEST(ending_of([] {
               start();
               send(SIGUSR2);
               wait_for_request();
               release_stop_signals();
               return 1;
             }) == 1000 + SIGUSR2);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace ptb
