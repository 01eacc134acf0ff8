// The checkpoints of a run directory: their names, the newest, and which are removed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace ptb {

// A name with a higher generation is not one that this program gives.
inline constexpr int kMaxGeneration = 999'999'999;

struct StoredCheckpoint {
  std::filesystem::path path;
  int generation = 0;     // launch attempt that wrote it
  std::int64_t step = 0;  // windows of the run done
};

// <run directory>/checkpoints. Made for the first checkpoint. Used by rank 0 alone, which holds the
// lock of the run directory.
class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::filesystem::path path) : path_(std::move(path)) {}

  const std::filesystem::path& path() const { return path_; }
  // g0003-step-00012000.h5
  std::filesystem::path file(int generation, std::int64_t step) const;
  std::filesystem::path best() const { return path_ / "best.h5"; }

  // What the names say, the newest first: by step, then generation. Other files are ignored. Empty
  // if there is no folder. Error 74.
  std::vector<StoredCheckpoint> list() const;

  // Makes the folder. Removes temporary files of this host's processes that have ended. Error 74.
  void prepare() const;
  // Free on its disk, as far as the system says.
  std::int64_t free_bytes() const;
  // The file is complete or absent, and replaces one of the same name. Error 74.
  void write(const std::filesystem::path& file, std::span<const std::byte> bytes) const;
  // Removes all but the newest `keep`, the oldest first. Error 74.
  void prune(int keep) const;
  // Moves every checkpoint newer than `chosen` into set-aside/, under a free name, because the run
  // resumes from `chosen` and will write those steps again. If list() does not have `chosen`, all
  // are moved: another run wrote them. If `best_is_newer`, best.h5 is moved, too. Returns the old
  // paths, the newest first. Error 74.
  std::vector<std::filesystem::path> set_aside(const std::filesystem::path& chosen,
                                               bool best_is_newer) const;

 private:
  std::filesystem::path path_;
};

}  // namespace ptb
