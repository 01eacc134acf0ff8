#include "ptb_dist/base/limits.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <exception>
#include <filesystem>
#include <iterator>
#include <new>
#include <optional>
#include <system_error>

#include "ptb_dist/base/control_groups.hpp"
#include "ptb_dist/base/units.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;

// What MPI_Init of Open MPI 4.1 needs, with room to spare. Measured by tests/fault/limits_test.py,
// which lowers each limit until the start fails.
constexpr int kFilesOfMpi = 28;
constexpr int kThreadsOfMpi = 4;
constexpr int kThreadsOfDaemon = 4;
constexpr std::size_t kMemoryOfMpi = std::size_t{384} << 20;

std::optional<rlim_t> limit_of(decltype(RLIMIT_AS) what) {
  rlimit limit{};
  if (::getrlimit(what, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  return limit.rlim_cur;
}

std::ptrdiff_t threads_of_process() {
  std::error_code failure;
  return std::distance(fs::directory_iterator("/proc/self/task", failure), {});
}

void append(std::string& text, const std::string& more) {
  text += (text.empty() ? "" : ", ") + more;
}

Error no_memory_for_mpi() {
  Complaint complaint{
      .what = "MPI cannot be started",
      .why = fmt::format("it takes {} of address space", bytes_text(std::int64_t{kMemoryOfMpi})),
      .remedy = "raise the limit"};
  append(complaint.why, limits_of_memory());
  return {ExitCode::missing, complaint};
}

// As many as asked for, or 69.
void require_files(int count) {
  struct Files {
    ~Files() {
      for (const int descriptor : open) ::close(descriptor);
    }
    std::vector<int> open{};
  } files;
  for (int i = 0; i < count; ++i) {
    const int descriptor = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (descriptor >= 0) {
      files.open.push_back(descriptor);
      continue;
    }
    if (is_file_limit(errno)) throw too_many_files("MPI cannot be started", "", errno);
    return;  // /dev/null is missing
  }
}

}  // namespace

std::string limits_of_threads() {
  std::string text;
  if (const auto most = limit_of(RLIMIT_NPROC)) {
    append(text, fmt::format("at most {} processes and threads of this user (ulimit -u)", *most));
  }
  if (const double most = thread_limit(); std::isfinite(most)) {
    append(text, fmt::format("at most {:.0f} of this control group (pids.max)", most));
  }
  // Every thread has a stack of its own.
  if (const std::string memory = limits_of_memory(); !memory.empty()) append(text, memory);
  return text.empty() ? "the system starts no more of them" : text;
}

std::string limits_of_files() {
  const auto most = limit_of(RLIMIT_NOFILE);
  return most ? fmt::format("at most {} open files (ulimit -n)", *most) : "no limit of the process";
}

std::string limits_of_memory() {
  std::string text;
  if (const auto most = limit_of(RLIMIT_AS)) {
    append(text, fmt::format("at most {} of address space (ulimit -v)",
                             bytes_text(static_cast<std::int64_t>(*most))));
  }
  if (const auto most = limit_of(RLIMIT_DATA)) {
    append(text, fmt::format("at most {} of data (ulimit -d)",
                             bytes_text(static_cast<std::int64_t>(*most))));
  }
  return text;
}

bool is_file_limit(int error_number) { return error_number == EMFILE || error_number == ENFILE; }

Error too_many_files(const std::string& what, const std::string& where, int error_number) {
  const std::string reason = std::generic_category().message(error_number);
  const bool is_of_system = error_number == ENFILE;
  return {ExitCode::missing,
          {.what = what,
           .where = where,
           .why = is_of_system ? reason : fmt::format("{}: {}", reason, limits_of_files()),
           .remedy = is_of_system ? "the whole machine is at its limit (sysctl fs.file-max)"
                                  : "raise the limit, for example ulimit -n 1024"}};
}

Error too_many_threads(const std::string& what, int error_number) {
  return {ExitCode::missing,
          {.what = what,
           .why = fmt::format("{}: {}", std::generic_category().message(error_number),
                              limits_of_threads()),
           .remedy = "raise the limit, or use fewer ranks on this host and fewer --threads"}};
}

Error out_of_memory() {
  const std::string limits = limits_of_memory();
  return {ExitCode::missing,
          {.what = "out of memory",
           .why = limits,
           .remedy = limits.empty()
                         ? "use fewer ranks per host or a smaller model"
                         : "raise the limit, or use fewer ranks per host or a smaller model"}};
}

Error error_in_flight() {
  const auto defect = [](const std::string& why) {
    return Error(ExitCode::internal, {.what = "unexpected exception",
                                      .why = why,
                                      .remedy = "this is a defect of ptb_dist, please report it"});
  };
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const fs::filesystem_error& error) {  // before system_error, its base class
    return defect(error.what());
  } catch (const std::system_error& error) {
    // Only std::thread and std::async throw it.
    if (error.code() == std::errc::resource_unavailable_try_again) {
      return too_many_threads("cannot start a thread", error.code().value());
    }
    return defect(error.what());
  } catch (const std::exception& error) {
    return defect(error.what());
  } catch (...) {
    return defect("");
  }
}

IdleThreads::IdleThreads(int wanted) : before_(threads_of_process()) {
  try {
    while (count() < wanted) threads_.emplace_back([this] { end_.wait(); });
  } catch (const std::system_error& error) {
    failure_ = error.code().value();
  } catch (const std::bad_alloc&) {
    failure_ = ENOMEM;
  }
}

IdleThreads::~IdleThreads() {
  end_.count_down();
  for (std::thread& thread : threads_) thread.join();
  // The kernel still counts a thread for a moment after its join, and more threads start next.
  for (int wait = 0; wait < 1000 && threads_of_process() > before_; ++wait) {
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

void require_threads(int count, const std::string& what) {
  const IdleThreads threads(count);
  if (threads.failure() == 0) return;
  throw too_many_threads(fmt::format("{} cannot be started", what), threads.failure());
}

void require_room_for_mpi(bool starts_daemon) {
  require_files(kFilesOfMpi);
  require_threads(kThreadsOfMpi + (starts_daemon ? kThreadsOfDaemon : 0), "MPI");
  if (limits_of_memory().empty()) return;
  void* const room = ::mmap(nullptr, kMemoryOfMpi, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) throw no_memory_for_mpi();
  ::munmap(room, kMemoryOfMpi);
}

}  // namespace ptb
