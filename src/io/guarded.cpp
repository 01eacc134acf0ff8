#include "io/guarded.hpp"

#include <fcntl.h>
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
#include <cstring>
#include <fstream>
#include <new>
#include <optional>
#include <system_error>

#include "io/file.hpp"

namespace ptb {
namespace {

using Clock = std::chrono::steady_clock;

// The child's last words: this, or a line with an exit code and the lines of an Error.
constexpr const char* kAllIsWell = "well";
constexpr const char* kTakesTooLong = "reading it takes longer than its size explains";
// A child that waits for ever uses no processor time; on a busy machine it may get little.
constexpr int kPatience = 10;

// Of the whole process, in bytes.
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

// A handler that MPI or a debugger has installed would print a page, or keep the child alive.
void confine(GuardLimits limits) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // no child holds the lock of a run that has been killed
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGXCPU}) {
    std::signal(number, SIG_DFL);
  }
  const rlim_t memory = address_space() + limits.memory;
  const auto seconds = static_cast<rlim_t>(limits.seconds);
  set_limit(RLIMIT_AS, memory, memory);
  set_limit(RLIMIT_CPU, seconds, seconds + 1);  // SIGXCPU, then SIGKILL
  set_limit(RLIMIT_CORE, 0, 0);
  set_limit(RLIMIT_FSIZE, 0, 0);
  // What the C library prints when it finds its heap damaged is no line of ours.
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere >= 0) ::dup2(nowhere, STDERR_FILENO);
}

std::string last_words(const hdf5::Subject& subject, const std::function<void()>& work) {
  const auto words = [](const Error& error) {
    return fmt::format("{}\n{}", static_cast<int>(error.code()), error.what());
  };
  try {
    work();
    return kAllIsWell;
  } catch (const Error& error) {
    return words(error);
  } catch (const std::bad_alloc&) {
    return words(subject.error("reading it takes more memory than its size explains"));
  } catch (const std::exception& error) {
    return words(subject.error(error.what()));
  }
}

[[noreturn]] void be_child(int pipe_end, const hdf5::Subject& subject, GuardLimits limits,
                           const std::function<void()>& work) {
  confine(limits);
  const std::string words = last_words(subject, work);
  write_all(pipe_end, std::as_bytes(std::span(words)));
  ::_exit(0);  // what runs at exit, MPI's part too, is for the process itself
}

// All that comes through the pipe until its other end is closed; nothing if the time is over.
std::optional<std::string> read_until(const FileDescriptor& pipe, Clock::time_point deadline) {
  std::string words;
  std::array<char, 4096> piece{};
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return std::nullopt;
    pollfd wanted{.fd = pipe.get(), .events = POLLIN, .revents = 0};
    if (::poll(&wanted, 1, static_cast<int>(left)) <= 0) continue;  // late, or interrupted
    const ssize_t got = ::read(pipe.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return words;
    words.append(piece.data(), static_cast<std::size_t>(got));
  }
}

int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

// Throws what the child threw, or what its end means.
void judge(const std::string& words, int status, const hdf5::Subject& subject) {
  if (words == kAllIsWell) return;
  const std::size_t line_end = words.find('\n');
  if (line_end != std::string::npos) {
    throw Error(static_cast<ExitCode>(std::stoi(words)), {.what = words.substr(line_end + 1)});
  }
  if (!WIFSIGNALED(status)) throw subject.error("reading it ends the process");
  const int number = WTERMSIG(status);
  if (number == SIGXCPU) throw subject.error(kTakesTooLong);
  throw subject.error(
      fmt::format("reading it ends in SIG{} in the HDF5 library", ::sigabbrev_np(number)));
}

Error no_child(int error_number) {
  return Error(ExitCode::internal, {.what = "cannot start a process to read a file in",
                                    .why = std::generic_category().message(error_number),
                                    .remedy = "raise the limits on processes and memory"});
}

}  // namespace

GuardLimits GuardLimits::for_bytes(std::size_t bytes) {
  constexpr std::size_t kLeastMemory = std::size_t{64} << 20;
  constexpr std::size_t kBytesPerSecond = 50'000'000;  // a tenth of what is seen of a busy machine
  return {.memory = kLeastMemory + 2 * bytes,
          .seconds = 5 + static_cast<int>(bytes / kBytesPerSecond)};
}

void run_guarded(const hdf5::Subject& subject, GuardLimits limits,
                 const std::function<void()>& work) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw no_child(errno);
  const FileDescriptor from(ends[0]);
  FileDescriptor to(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) throw no_child(errno);
  if (child == 0) be_child(to.get(), subject, limits, work);
  to.close();
  const auto words =
      read_until(from, Clock::now() + std::chrono::seconds(kPatience * limits.seconds));
  if (!words) ::kill(child, SIGKILL);
  const int status = wait_for(child);
  if (!words) throw subject.error(kTakesTooLong);
  judge(*words, status, subject);
}

}  // namespace ptb
