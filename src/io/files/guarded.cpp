#include "io/files/guarded.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "io/files/file.hpp"
#include "ptb_dist/base/awake_clock.hpp"
#include "ptb_dist/base/limits.hpp"

namespace ptb {
namespace {

// Exit status of a child that has written a result; after an Error it is the Error's code. Neither
// is 0 or 1, with which a library or a sanitizer may end the process.
constexpr int kResult = 100;
constexpr const char* kTakesTooMuch = "reading it takes longer than its size explains";
// Limit on wall time, as a multiple of the limit on processor time: a child that waits for ever
// uses no processor time, and on a busy machine a good child gets little of it.
constexpr int kPatience = 10;

// Address space of the whole process, in bytes.
std::size_t address_space() {
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

void set_limit(decltype(RLIMIT_AS) what, rlim_t soft, rlim_t hard) {
  rlimit limit{};
  ::getrlimit(what, &limit);
  limit.rlim_max = std::min(limit.rlim_max, hard);
  limit.rlim_cur = std::min(limit.rlim_max, soft);
  ::setrlimit(what, &limit);
}

// A handler of MPI or of a debugger would print a page, or keep the child alive; so fatal signals
// end the child. A stop signal to all processes of a job is for the parent: if it ended the child,
// a good file would seem to be bad.
void confine(GuardLimits limits) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // else a child could hold the lock of a run that was killed
  for (const int number : {SIGUSR1, SIGUSR2, SIGTERM, SIGINT, SIGHUP}) {
    std::signal(number, SIG_IGN);
  }
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGXCPU}) {
    std::signal(number, SIG_DFL);
  }
  const rlim_t memory = address_space() + limits.memory;
  const auto seconds = static_cast<rlim_t>(limits.seconds);
  set_limit(RLIMIT_AS, memory, memory);
  set_limit(RLIMIT_CPU, seconds, seconds + 1);  // SIGXCPU, then SIGKILL
  set_limit(RLIMIT_CORE, 0, 0);
  set_limit(RLIMIT_FSIZE, 0, 0);
  // The C library prints when it finds its heap damaged; users should not see that.
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere >= 0) ::dup2(nowhere, STDERR_FILENO);
}

// Writes the result to the pipe and ends the child.
std::pair<int, std::string> outcome_of(const std::function<std::string()>& work,
                                       const Subject& subject) {
  const auto failed = [](const Error& error) {
    return std::pair(static_cast<int>(error.code()), std::string(error.what()));
  };
  try {
    return {kResult, work()};
  } catch (const Error& error) {
    return failed(error);
  } catch (const std::bad_alloc&) {
    return failed(subject.error("reading it takes more memory than its size explains"));
  } catch (const std::exception& error) {
    return failed(subject.error(error.what()));
  }
}

[[noreturn]] void be_child(int pipe_end, const Subject& subject, GuardLimits limits,
                           const std::function<std::string()>& work) {
  confine(limits);
  const auto [ending, words] = outcome_of(work, subject);
  if (write_all(pipe_end, std::as_bytes(std::span(words))) != 0) std::abort();
  ::_exit(ending);  // functions that run at exit, such as MPI's, are for the parent only
}

// Everything from the pipe until its other end is closed; nothing if that takes too long or is too
// much.
std::optional<std::string> read_until(const FileDescriptor& pipe, AwakeClock::time_point deadline,
                                      std::size_t most) {
  std::string words;
  std::vector<char> piece(std::size_t{64} << 10);  // as much as a pipe holds
  while (words.size() <= most) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - AwakeClock::now()).count();
    if (left <= 0) return std::nullopt;
    pollfd wanted{.fd = pipe.get(), .events = POLLIN, .revents = 0};
    if (::poll(&wanted, 1, static_cast<int>(left)) <= 0) continue;  // late, or interrupted
    const ssize_t got = ::read(pipe.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return words;
    words.append(piece.data(), static_cast<std::size_t>(got));
  }
  return std::nullopt;
}

// Owns the child: it never outlives the call that made it.
class Child {
 public:
  explicit Child(pid_t process) : process_(process) {}
  ~Child() {
    if (is_running_) ::kill(process_, SIGKILL);
    wait();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // Its wait status.
  int wait() {
    while (is_running_ && ::waitpid(process_, &status_, 0) < 0 && errno == EINTR) {
    }
    is_running_ = false;
    return status_;
  }

 private:
  pid_t process_;
  bool is_running_ = true;
  int status_ = 0;
};

// Throws unless the child ended with a result.
void judge(int status, const std::string& words, const Subject& subject) {
  const int ending = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
  if (ending == kResult) return;
  if (ending > 1) throw Error(static_cast<ExitCode>(ending), {.what = words});
  if (WIFEXITED(status)) throw subject.error("reading it ended the process");
  const int number = WTERMSIG(status);
  if (number == SIGXCPU) throw subject.error(kTakesTooMuch);
  throw subject.error(
      fmt::format("reading it ended by SIG{} in the HDF5 library", ::sigabbrev_np(number)));
}

Error no_child(int error_number) {
  const std::string what = "cannot start a process that reads a file";
  return is_file_limit(error_number) ? too_many_files(what, "", error_number)
                                     : too_many_threads(what, error_number);
}

}  // namespace

GuardLimits GuardLimits::for_bytes(std::size_t bytes) {
  constexpr std::size_t kLeastMemory = std::size_t{64} << 20;
  constexpr std::size_t kBytesPerSecond = 50'000'000;  // a tenth of the rate of a busy machine
  return {.memory = kLeastMemory + 2 * bytes,
          .seconds = 5 + static_cast<int>(bytes / kBytesPerSecond)};
}

std::string run_guarded(const Subject& subject, GuardLimits limits,
                        const std::function<std::string()>& work) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw no_child(errno);
  const FileDescriptor from(ends[0]);
  FileDescriptor to(ends[1]);
  const pid_t process = ::fork();
  if (process < 0) throw no_child(errno);
  if (process == 0) be_child(to.get(), subject, limits, work);
  Child child(process);
  to.close();
  const auto deadline = AwakeClock::now() + std::chrono::seconds(kPatience * limits.seconds);
  std::optional<std::string> words = read_until(from, deadline, limits.memory);
  if (!words) throw subject.error(kTakesTooMuch);
  judge(child.wait(), *words, subject);
  return std::move(*words);
}

}  // namespace ptb
