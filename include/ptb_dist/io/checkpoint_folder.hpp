// The checkpoints of a run directory: their names, which is the newest, which may go.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace ptb {

// Names with a higher generation are no names of ours.
inline constexpr int kMaxGeneration = 999'999'999;

struct StoredCheckpoint {
  std::filesystem::path path;
  int generation = 0;     // launch attempt that wrote it
  std::int64_t step = 0;  // windows of the run done
};

// <run directory>/checkpoints. Made when the first is written. Of rank 0 alone, whose run directory
// is locked.
class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::filesystem::path path) : path_(std::move(path)) {}

  const std::filesystem::path& path() const { return path_; }
  // g0003-step-00012000.h5
  std::filesystem::path file(int generation, std::int64_t step) const;
  std::filesystem::path best() const { return path_ / "best.h5"; }

  // By name, the newest first: by step, then generation. Other files are ignored; without the
  // folder there are none. Error 74.
  std::vector<StoredCheckpoint> list() const;

  // Makes the folder, and removes temporary files of processes of this host that are gone. Error
  // 74.
  void prepare() const;
  // On its disk, as far as can be known.
  std::int64_t free_bytes() const;
  // Complete or absent, replacing one of the same name (io/file.hpp). Error 74.
  void write(const std::filesystem::path& file, std::span<const std::byte> bytes) const;
  // Removes all but the newest `keep`, the oldest first. Error 74.
  void prune(int keep) const;
  // Moves those that list() has before (newer than) `chosen` into set-aside/, where no name is
  // taken twice: the run goes on from `chosen` along another path. All of them if `chosen` is not
  // of the list: they are another path's. `best` goes too if `best_is_newer`. Returns their old
  // paths, the newest first. Error 74.
  std::vector<std::filesystem::path> set_aside(const std::filesystem::path& chosen,
                                               bool best_is_newer) const;

 private:
  std::filesystem::path path_;
};

}  // namespace ptb
