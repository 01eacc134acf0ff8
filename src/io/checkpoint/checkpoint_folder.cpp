#include "ptb_dist/io/checkpoint_folder.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <functional>
#include <limits>
#include <optional>
#include <string_view>
#include <system_error>
#include <tuple>

#include "io/files/file.hpp"
#include "ptb_dist/base/error.hpp"

namespace ptb {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWhat = "checkpoint";
constexpr const char* kFolderWhat = "checkpoints";
constexpr std::string_view kStepMark = "-step-";
constexpr std::string_view kEnding = ".h5";

std::string name_of(int generation, std::int64_t step) {
  return fmt::format("g{:04}{}{:08}{}", generation, kStepMark, step, kEnding);
}

template <class Integer>
bool read_number(std::string_view text, Integer& value) {
  return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc();
}

// Nothing for a name that file() would not return.
std::optional<StoredCheckpoint> stored_at(const fs::path& path) {
  const std::string name = path.filename().string();
  const std::size_t mark = name.find(kStepMark);
  if (!name.starts_with('g') || mark == std::string::npos) return std::nullopt;
  StoredCheckpoint stored{.path = path};
  const std::string_view digits = name;
  const bool is_read = read_number(digits.substr(1), stored.generation) &&
                       read_number(digits.substr(mark + kStepMark.size()), stored.step);
  const bool is_ours = is_read && stored.generation >= 0 && stored.step >= 0 &&
                       stored.generation <= kMaxGeneration &&
                       name == name_of(stored.generation, stored.step);
  return is_ours ? std::optional(stored) : std::nullopt;
}

// "name.h5" in the folder, or "name-2.h5", "name-3.h5", ... if that exists.
fs::path free_name(const fs::path& folder, const fs::path& name) {
  for (int number = 1;; ++number) {
    const fs::path path =
        folder / (number == 1 ? name.string()
                              : fmt::format("{}-{}{}", name.stem().string(), number, kEnding));
    if (!is_there(path)) return path;
  }
}

}  // namespace

fs::path CheckpointFolder::file(int generation, std::int64_t step) const {
  return path_ / name_of(generation, step);
}

std::vector<StoredCheckpoint> CheckpointFolder::list() const {
  std::vector<StoredCheckpoint> found;
  std::error_code failure;
  for (fs::directory_iterator entry(path_, failure); entry != fs::directory_iterator();
       entry.increment(failure)) {
    if (auto stored = stored_at(entry->path())) found.push_back(std::move(*stored));
  }
  if (failure && failure != std::errc::no_such_file_or_directory) {
    throw io_error(kFolderWhat, path_, failure.value());
  }
  std::ranges::sort(found, std::greater(), [](const StoredCheckpoint& stored) {
    return std::tuple(stored.step, stored.generation);
  });
  return found;
}

void CheckpointFolder::prepare() const {
  create_folders(kFolderWhat, path_);
  remove_stale_temporaries(path_);
  if (const int failure = sync_folder(path_.parent_path()); failure != 0) {
    throw io_error(kFolderWhat, path_, failure);
  }
}

std::int64_t CheckpointFolder::free_bytes() const {
  struct statvfs disk = {};
  if (::statvfs(path_.c_str(), &disk) != 0) return std::numeric_limits<std::int64_t>::max();
  return static_cast<std::int64_t>(disk.f_bavail * disk.f_frsize);
}

void CheckpointFolder::write(const fs::path& file, std::span<const std::byte> bytes) const {
  replace_file(kWhat, file, bytes);
}

void CheckpointFolder::prune(int keep) const {
  std::vector<StoredCheckpoint> stored = list();
  for (; std::ssize(stored) > keep; stored.pop_back()) {
    const fs::path& path = stored.back().path;
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
      throw io_error("cannot remove an old checkpoint", path, errno);
    }
  }
}

std::vector<fs::path> CheckpointFolder::set_aside(const fs::path& chosen,
                                                  bool best_is_newer) const {
  std::vector<fs::path> moved;
  std::error_code failure;
  for (const StoredCheckpoint& stored : list()) {
    if (fs::equivalent(stored.path, chosen, failure)) break;  // one file may have many paths
    moved.push_back(stored.path);
  }
  if (best_is_newer && is_there(best())) moved.push_back(best());
  if (moved.empty()) return moved;

  const fs::path aside = path_ / "set-aside";
  create_folders(kFolderWhat, aside);
  for (const fs::path& path : moved) {
    if (::rename(path.c_str(), free_name(aside, path.filename()).c_str()) != 0) {
      throw io_error("cannot set a checkpoint aside", path, errno);
    }
  }
  for (const fs::path& folder : {aside, path_}) {
    if (const int code = sync_folder(folder); code != 0) {
      throw io_error("cannot set a checkpoint aside", folder, code);
    }
  }
  return moved;
}

}  // namespace ptb
