#include "io/files/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ptb_dist/base/limits.hpp"
#include "ptb_dist/base/units.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;

// Bytes of one call: small enough to notice a kill or a full disk soon, and below the 2 GiB that
// one call of Linux can write.
constexpr std::size_t kPiece = std::size_t{1} << 20;

std::string remedy_for(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return "free some space or write to another disk";
    case EROFS:
    case EACCES:
    case EPERM:
      return "check the permissions or write to another folder";
    case EFBIG:
      return "raise the limit on the size of files (ulimit -f)";
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

// Stands between the name of a file and the process number: the host, because several hosts may
// share the disk.
std::string temporary_mark() { return fmt::format(".tmp.{}.", host_name()); }

fs::path temporary_beside(const fs::path& path) {
  return folder_of(path) /
         fmt::format(".{}{}{}", path.filename().string(), temporary_mark(), ::getpid());
}

// Whether the name is from temporary_beside, for a process of this host that has ended.
bool is_stale(std::string_view name, std::string_view mark) {
  const std::size_t at = name.rfind(mark);
  if (!name.starts_with('.') || at == std::string_view::npos) return false;
  const char* const digits = name.data() + at + mark.size();
  const char* const end = name.data() + name.size();
  pid_t process = 0;
  const auto result = std::from_chars(digits, end, process);
  if (result.ec != std::errc() || result.ptr != end || process <= 0) return false;
  return ::kill(process, 0) != 0 && errno == ESRCH;
}

// A temporary file. The destructor removes it unless it has been renamed.
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
    const int failure = sync_file(file_.get());
    if (failure != 0) return failure;
    const int of_close = file_.close();
    return of_close == EINTR ? 0 : of_close;  // it is closed anyway, and its bytes are on the disk
  }
  int rename_to(const fs::path& target) {
    if (::rename(path_.c_str(), target.c_str()) != 0) return errno;
    is_renamed_ = true;
    return 0;
  }

 private:
  static int create(const fs::path& path) {
    ::unlink(path.c_str());  // of an earlier process with the same number
    return ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
  }

  fs::path path_;
  FileDescriptor file_;
  bool is_renamed_ = false;
};

// Without this check rename(), as root, would replace /dev/null by a plain file.
void check_is_regular_or_absent(const std::string& what, const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    throw Error(ExitCode::io, {.what = what,
                               .where = path.string(),
                               .why = "exists and is not a regular file",
                               .remedy = "give the name of a file"});
  }
}

Error write_error(const std::string& what, const fs::path& path, std::size_t bytes,
                  int error_number) {
  struct statvfs disk {};
  if (error_number != ENOSPC || ::statvfs(folder_of(path).c_str(), &disk) != 0) {
    return io_error(what, path, error_number);
  }
  const std::string why =
      fmt::format("{} ({} needed, {} free)", std::generic_category().message(error_number),
                  bytes_text(static_cast<std::int64_t>(bytes)),
                  bytes_text(static_cast<std::int64_t>(disk.f_bavail * disk.f_frsize)));
  return Error(
      ExitCode::io,
      {.what = what, .where = path.string(), .why = why, .remedy = remedy_for(error_number)});
}

}  // namespace

Error io_error(const std::string& what, const fs::path& path, int error_number) {
  if (is_file_limit(error_number)) return too_many_files(what, path.string(), error_number);
  return Error(ExitCode::io, {.what = what,
                              .where = path.string(),
                              .why = std::generic_category().message(error_number),
                              .remedy = remedy_for(error_number)});
}

int write_all(int descriptor, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), std::min(bytes.size(), kPiece));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written < 0 ? errno : EIO;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return 0;
}

// Only an interrupted call is repeated. After any other failure the kernel marks the lost pages as
// written, so a second call would report success.
int sync_file(int descriptor) {
  while (::fsync(descriptor) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

bool is_there(const fs::path& path) {
  std::error_code failure;
  return fs::exists(fs::symlink_status(path, failure));
}

std::optional<std::string> read_text(const std::string& what, const fs::path& path) {
  const RegularFile file = open_regular(path);
  if (file.error_number == ENOENT) return std::nullopt;
  if (file.error_number != 0) throw io_error(what, path, file.error_number);
  if (!file.refusal.empty()) {
    throw Error(ExitCode::io, {.what = what, .where = path.string(), .why = file.refusal});
  }
  std::string text(static_cast<std::size_t>(file.bytes), '\0');
  const std::int64_t length = read_all(file.descriptor, text);
  if (length < 0) throw io_error(what, path, errno);
  text.resize(static_cast<std::size_t>(length));
  return text;
}

void create_folders(const std::string& what, const fs::path& path) {
  std::error_code failure;
  fs::create_directories(path, failure);
  if (failure) throw io_error(what, path, failure.value());
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

int sync_folder(const fs::path& folder) {
  const FileDescriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!descriptor.is_open()) return errno;
  const int failure = sync_file(descriptor.get());
  return failure == EINVAL ? 0 : failure;
}

void check_replaceable(const std::string& what, const fs::path& path) {
  check_is_regular_or_absent(what, path);
  const TemporaryFile attempt(what, path);
}

void remove_stale_temporaries(const fs::path& folder) {
  const std::string mark = temporary_mark();
  std::error_code ignored;
  std::vector<fs::path> stale;  // collected first, because removing disturbs the listing
  for (fs::directory_iterator entry(folder, ignored); entry != fs::directory_iterator();
       entry.increment(ignored)) {
    if (is_stale(entry->path().filename().string(), mark)) stale.push_back(entry->path());
  }
  for (const fs::path& path : stale) ::unlink(path.c_str());
}

std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

}  // namespace ptb
