#include "ptb_dist/base/stop.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <memory>

#include "ptb_dist/base/error.hpp"
#include "ptb_dist/base/limits.hpp"

namespace ptb {
namespace {

constexpr int kStopSignals[] = {SIGUSR1, SIGUSR2, SIGTERM, SIGINT, SIGHUP, SIGXCPU};

// Plain data, because it is written before the constructors of this program run.
bool is_blocked;
sigset_t taken;          // the signals that the thread waits for
sigset_t blocked_by_us;  // the signals that child processes get unblocked

std::atomic<int> first_signal{0};
std::atomic<bool> is_released{false};
std::atomic<const std::string*> other_reason{nullptr};  // never freed: it is read at any time

bool is_ignored(int signal) {
  struct sigaction action = {};
  return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

// Ends the process as the signal would without this program's blocking.
[[noreturn]] void end_by(int signal) {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  ::sigaction(signal, &action, nullptr);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, signal);
  ::pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
  ::raise(signal);
  ::_exit(128 + signal);  // process 1 of a container cannot end itself by a signal
}

void* take_signals(void*) {
  for (int interrupts = 0;;) {
    int signal = 0;
    if (::sigwait(&taken, &signal) != 0) continue;
    int none = 0;
    first_signal.compare_exchange_strong(none, signal);
    if (is_released) end_by(signal);
    if (signal == SIGINT && ++interrupts > 1) ::_exit(static_cast<int>(ExitCode::interrupted));
  }
  return nullptr;
}

void give_back_mask() { ::pthread_sigmask(SIG_UNBLOCK, &blocked_by_us, nullptr); }

}  // namespace

void block_stop_signals() noexcept {
  if (is_blocked) return;
  is_blocked = true;
  sigset_t before;
  sigemptyset(&taken);
  for (const int signal : kStopSignals) sigaddset(&taken, signal);
  ::pthread_sigmask(SIG_BLOCK, &taken, &before);
  // A blocked signal that is ignored would stay pending, and the thread would receive it.
  for (const int signal : {SIGINT, SIGHUP}) {
    if (is_ignored(signal)) sigdelset(&taken, signal);
  }
  sigemptyset(&blocked_by_us);
  for (const int signal : kStopSignals) {
    if (sigismember(&before, signal) == 0) sigaddset(&blocked_by_us, signal);
  }
}

void catch_stop_signals() {
  block_stop_signals();  // for a program that did not call it before main
  ::pthread_atfork(nullptr, nullptr, give_back_mask);
  sigset_t all, mask;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &mask);  // no handler of a library may run on this thread
  pthread_t thread{};
  const int failure = ::pthread_create(&thread, nullptr, take_signals, nullptr);
  ::pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  if (failure != 0)
    throw too_many_threads("cannot start the thread that waits for signals", failure);
  ::pthread_detach(thread);
}

void release_stop_signals() {
  is_released = true;
  if (const int signal = first_signal.load(); signal != 0) end_by(signal);
}

void request_stop(const std::string& reason) {
  auto text = std::make_unique<const std::string>(reason);
  const std::string* none = nullptr;
  if (other_reason.compare_exchange_strong(none, text.get())) text.release();
}

bool is_stop_requested() {
  return first_signal.load(std::memory_order_relaxed) != 0 ||
         other_reason.load(std::memory_order_relaxed) != nullptr;
}

std::string stop_reason() {
  const int signal = first_signal.load(std::memory_order_relaxed);
  if (signal != 0) return fmt::format("SIG{}", ::sigabbrev_np(signal));
  const std::string* const other = other_reason.load();
  return other == nullptr ? "" : *other;
}

}  // namespace ptb
