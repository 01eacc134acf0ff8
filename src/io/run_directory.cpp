#include "ptb_dist/io/run_directory.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <span>
#include <system_error>
#include <utility>

#include "io/file.hpp"
#include "ptb_dist/base/error.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWhat = "run directory";

void create_folders(const fs::path& path) {
  std::error_code failure;
  fs::create_directories(path, failure);
  if (failure) throw io_error(kWhat, path, failure.value());
}

// runs/<config>-<date>-<time>, and -2, -3, ... where runs start within one second.
fs::path create_new(const std::string& config_name) {
  const fs::path parent = "runs";
  create_folders(parent);
  const std::string name =
      fmt::format("{}-{:%Y%m%d-%H%M%S}", config_name, fmt::localtime(std::time(nullptr)));
  for (int number = 1;; ++number) {
    const fs::path path = parent / (number == 1 ? name : fmt::format("{}-{}", name, number));
    if (::mkdir(path.c_str(), 0777) == 0) return path;
    if (errno != EEXIST) throw io_error(kWhat, path, errno);
  }
}

void check_holds_no_run(const fs::path& path) {
  for (const char* name : {"config.toml", "metrics.jsonl"}) {
    std::error_code failure;
    if (!fs::exists(fs::symlink_status(path / name, failure))) continue;
    throw Error(ExitCode::usage, {.what = kWhat,
                                  .where = path.string(),
                                  .why = fmt::format("holds a run already ({} is there)", name),
                                  .remedy = "give another --run-dir, or move that run away"});
  }
}

fs::path create_at(const fs::path& path) {
  std::error_code failure;
  const bool is_there = fs::exists(path, failure);
  // create_directories would answer "Not a directory" to both, which sends the user astray.
  if (!is_there && fs::is_symlink(fs::symlink_status(path, failure))) {
    throw Error(ExitCode::io, {.what = kWhat,
                               .where = path.string(),
                               .why = "is a symbolic link to nothing",
                               .remedy = "remove the link, or give another --run-dir"});
  }
  if (is_there && !fs::is_directory(path, failure)) {
    throw Error(ExitCode::io, {.what = kWhat,
                               .where = path.string(),
                               .why = "exists and is not a folder",
                               .remedy = "give another --run-dir"});
  }
  create_folders(path);
  check_holds_no_run(path);
  return path;
}

}  // namespace

RunDirectory::RunDirectory(const fs::path& path, const std::string& config_name)
    : path_(path.empty() ? create_new(config_name) : create_at(path)) {}

void RunDirectory::keep(const ResolvedConfig& config) const {
  const std::string text = to_toml(config);
  replace_file(kWhat, file("config.toml"), std::as_bytes(std::span(text)));
}

LineFile::LineFile(fs::path path)
    : path_(std::move(path)),
      file_(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)) {
  if (!file_.is_open()) throw io_error("cannot open", path_, errno);
}

void LineFile::write(const std::string& line) {
  const std::string text = line + '\n';
  const off_t length_before = ::lseek(file_.get(), 0, SEEK_END);
  const int failure = write_all(file_.get(), std::as_bytes(std::span(text)));
  if (failure == 0) return;
  // A full disk may have taken half of the line, which readers of metrics.jsonl would trip over.
  // Where even this fails (a device), the error is told all the same.
  [[maybe_unused]] const int ignored = ::ftruncate(file_.get(), length_before);
  throw io_error("cannot write", path_, failure);
}

}  // namespace ptb
