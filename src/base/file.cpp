#include "ptb_dist/base/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "ptb_dist/base/limits.hpp"

namespace ptb {
namespace {

RegularFile refused(int error_number) {
  return {.refusal = std::generic_category().message(error_number), .error_number = error_number};
}

}  // namespace

FileDescriptor::FileDescriptor(FileDescriptor&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

int FileDescriptor::close() {
  if (!is_open()) return 0;
  // Linux frees the descriptor even if close fails, so it is never closed twice.
  return ::close(std::exchange(descriptor_, -1)) == 0 ? 0 : errno;
}

RegularFile open_regular(const std::filesystem::path& path) {
  // Without O_NONBLOCK, opening a FIFO waits for its writer.
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!file.is_open() && is_file_limit(errno)) {
    throw too_many_files("cannot open", path.string(), errno);
  }
  if (!file.is_open()) return refused(errno);
  struct stat status = {};
  if (::fstat(file.get(), &status) != 0) return refused(errno);
  if (S_ISDIR(status.st_mode)) return {.refusal = "is a folder"};
  if (!S_ISREG(status.st_mode)) return {.refusal = "is not a regular file"};
  return {.descriptor = std::move(file), .bytes = status.st_size};
}

std::int64_t read_all(const FileDescriptor& file, std::span<char> to) {
  std::size_t filled = 0;
  while (filled < to.size()) {
    const ssize_t got = ::read(file.get(), to.data() + filled, to.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  return static_cast<std::int64_t>(filled);
}

}  // namespace ptb
