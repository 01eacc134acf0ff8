#include "io/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

namespace ptb {
namespace {

namespace fs = std::filesystem;

std::string remedy_for(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return "free some space or write to another disk";
    case EROFS:
    case EACCES:
    case EPERM:
      return "check the permissions or write to another folder";
    case ENAMETOOLONG:
      return "choose a shorter name";
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
      return "check every folder of the path";
    default:
      return "check the path and its disk";
  }
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// Host and process make it ours alone, also on a disk that several hosts share.
fs::path temporary_beside(const fs::path& path) {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  return folder_of(path) /
         fmt::format(".{}.tmp.{}.{}", path.filename().string(), host.data(), ::getpid());
}

// Removed at the end of its life unless it has been renamed.
class TemporaryFile {
 public:
  TemporaryFile(const std::string& what, const fs::path& target)
      : path_(temporary_beside(target)), file_(create(path_)) {
    if (!file_.is_open()) throw io_error(what, target, errno);
  }
  ~TemporaryFile() {
    if (!is_renamed_) ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  // Each returns 0 or an errno value.
  int write(std::span<const std::byte> bytes) { return write_all(file_.get(), bytes); }
  int sync_and_close() {
    if (::fsync(file_.get()) != 0) return errno;
    return file_.close();
  }
  int rename_to(const fs::path& target) {
    if (::rename(path_.c_str(), target.c_str()) != 0) return errno;
    is_renamed_ = true;
    return 0;
  }

 private:
  static int create(const fs::path& path) {
    ::unlink(path.c_str());  // of an earlier life of this process number
    return ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
  }

  fs::path path_;
  FileDescriptor file_;
  bool is_renamed_ = false;
};

// rename() as root would put a plain file in the place of /dev/null.
void check_is_regular_or_absent(const std::string& what, const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    throw Error(ExitCode::io, {.what = what,
                               .where = path.string(),
                               .why = "exists and is not a regular file",
                               .remedy = "give the name of a file"});
  }
}

// The new name itself must survive a power cut. Some file systems cannot sync a folder (EINVAL).
int sync_folder(const fs::path& folder) {
  const FileDescriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!descriptor.is_open()) return errno;
  return ::fsync(descriptor.get()) == 0 || errno == EINVAL ? 0 : errno;
}

Error write_error(const std::string& what, const fs::path& path, std::size_t bytes,
                  int error_number) {
  struct statvfs disk {};
  if (error_number != ENOSPC || ::statvfs(folder_of(path).c_str(), &disk) != 0) {
    return io_error(what, path, error_number);
  }
  const std::string why =
      fmt::format("{} ({} bytes needed, {} free)", std::generic_category().message(error_number),
                  bytes, disk.f_bavail * disk.f_frsize);
  return Error(
      ExitCode::io,
      {.what = what, .where = path.string(), .why = why, .remedy = remedy_for(error_number)});
}

}  // namespace

Error io_error(const std::string& what, const fs::path& path, int error_number) {
  return Error(ExitCode::io, {.what = what,
                              .where = path.string(),
                              .why = std::generic_category().message(error_number),
                              .remedy = remedy_for(error_number)});
}

int write_all(int descriptor, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written < 0 ? errno : EIO;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return 0;
}

void replace_file(const std::string& what, const fs::path& path, std::span<const std::byte> bytes) {
  check_is_regular_or_absent(what, path);
  TemporaryFile temporary(what, path);
  int failure = temporary.write(bytes);
  if (failure == 0) failure = temporary.sync_and_close();
  if (failure == 0) failure = temporary.rename_to(path);
  if (failure == 0) failure = sync_folder(folder_of(path));
  if (failure != 0) throw write_error(what, path, bytes.size(), failure);
}

void check_replaceable(const std::string& what, const fs::path& path) {
  check_is_regular_or_absent(what, path);
  const TemporaryFile attempt(what, path);
}

}  // namespace ptb
