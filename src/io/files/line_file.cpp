#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <span>
#include <utility>

#include "io/files/file.hpp"
#include "ptb_dist/io/run_directory.hpp"

namespace ptb {

LineFile::LineFile(std::filesystem::path path)
    : path_(std::move(path)),
      file_(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)) {
  if (!file_.is_open()) throw io_error("cannot open", path_, errno);
}

void LineFile::write(const std::string& line) {
  const std::string text = line + '\n';
  const off_t length_before = ::lseek(file_.get(), 0, SEEK_END);
  const int failure = write_all(file_.get(), std::as_bytes(std::span(text)));
  if (failure == 0) return;
  // A full disk may have taken a part of the line, which would confuse readers of metrics.jsonl. If
  // even cutting it off fails (a device), the first error is still thrown.
  [[maybe_unused]] const int ignored = ::ftruncate(file_.get(), length_before);
  throw io_error("cannot write", path_, failure);
}

void LineFile::sync() const {
  const int failure = sync_file(file_.get());
  // Devices and pipes cannot be synced and do not need it.
  if (failure != 0 && failure != EINVAL && failure != EROFS) {
    throw io_error("cannot write", path_, failure);
  }
}

}  // namespace ptb
