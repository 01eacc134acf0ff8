#include "io/run_directory/run_lock.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <span>
#include <string_view>
#include <system_error>

#include "io/files/file.hpp"
#include "ptb_dist/base/error.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWhat = "run directory";

// "process 123 on node17 since 2026-03-01T12:00:00Z, Slurm job 77"
std::string this_holder() {
  const char* const job = std::getenv("SLURM_JOB_ID");
  return fmt::format("process {} on {} since {:%Y-%m-%dT%H:%M:%SZ}{}{}", ::getpid(), host_name(),
                     fmt::gmtime(std::time(nullptr)), job != nullptr ? ", Slurm job " : "",
                     job != nullptr ? job : "");
}

// The text that the holder has written; it may be empty if the holder has just started.
std::string holder_of(const FileDescriptor& lock) {
  std::array<char, 256> text{};
  const std::int64_t length = std::max<std::int64_t>(read_all(lock, text), 0);
  const std::string_view read(text.data(), static_cast<std::size_t>(length));
  const std::string_view line = read.substr(0, read.find('\n'));
  return std::string(line.empty() ? "another job" : line);
}

// Whether the file system has no locks at all. EWOULDBLOCK, from LOCK_NB, means a held lock.
bool means_no_locks(int error_number) {
  return error_number == ENOLCK || error_number == EOPNOTSUPP || error_number == ENOSYS;
}

}  // namespace

FileDescriptor lock_run_directory(const fs::path& folder, std::vector<std::string>& remarks) {
  const fs::path path = folder / ".lock";
  FileDescriptor lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
  if (!lock.is_open()) throw io_error(kWhat, path, errno);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    const int failure = errno;
    if (failure == EWOULDBLOCK) {
      throw Error(ExitCode::usage, {.what = kWhat,
                                    .where = folder.string(),
                                    .why = fmt::format("is in use by {}", holder_of(lock)),
                                    .remedy = "wait for it, end it, or give another --run-dir"});
    }
    if (!means_no_locks(failure)) throw io_error(kWhat, path, failure);
    remarks.push_back(
        fmt::format("{}: {} cannot be locked ({}): make sure that no other job writes there", kWhat,
                    escaped(folder.string()), std::generic_category().message(failure)));
  }
  const std::string text = this_holder() + '\n';
  int failure = ::ftruncate(lock.get(), 0) == 0 ? 0 : errno;
  if (failure == 0) failure = write_all(lock.get(), std::as_bytes(std::span(text)));
  if (failure != 0) throw io_error(kWhat, path, failure);
  return lock;
}

}  // namespace ptb
