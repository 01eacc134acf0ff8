// The folder of one run: config.toml, log.txt, metrics.jsonl, manifest.json, checkpoints/. Written
// by rank 0 alone, and by one job at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/base/file.hpp"
#include "ptb_dist/io/checkpoint_folder.hpp"

namespace ptb {

class RunDirectory {
 public:
  enum class Purpose {
    start,        // the folder must not hold a run
    go_on,        // it may hold a run, which is resumed
    start_again,  // if it holds a run, that is moved into its old-1/, old-2/, ...
  };
  // Creates `path` (empty: runs/<config>-<date>-<time>, made unique) and locks it until the end of
  // this object or process. Error 74 with path and reason if that fails; 2 if another job holds the
  // lock (the message names the job), or if the purpose is `start` and the folder holds a run.
  RunDirectory(const std::filesystem::path& path, const std::string& config_name, Purpose purpose);

  // Whether the folder has a config.toml, a metrics.jsonl or checkpoints.
  static bool holds_a_run(const std::filesystem::path& path);

  // The checkpoints of the run in a folder, for a reader: makes and locks nothing.
  static CheckpointFolder checkpoints_of(const std::filesystem::path& path);

  // Writes config.toml: from now on the folder holds a run. Error 74.
  void keep(const ResolvedConfig& config) const;
  // Removes the records of metrics.jsonl that a run which resumes here will write again: those of
  // windows from `step` on, of epochs from `epoch` on, and of the test; also a line that a kill cut
  // short. All others keep their bytes. Error 74.
  void cut_metrics(std::int64_t step, int epoch) const;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path file(const std::string& name) const { return path_ / name; }
  CheckpointFolder checkpoints() const { return checkpoints_of(path_); }
  // How often the program was launched here before. It is higher than the generation of any
  // checkpoint here and of any attempt in the manifest.
  int generation() const { return generation_; }
  // What the user should know of the lock or of files moved away, one line each.
  const std::vector<std::string>& remarks() const { return remarks_; }

 private:
  std::filesystem::path path_;
  std::vector<std::string> remarks_;
  FileDescriptor lock_;
  int generation_ = 0;
};

// A text file that grows line by line; each line is given to the kernel at once, whole or not at
// all. Error 74 names the file and the reason.
class LineFile {
 public:
  // Appends to what is there.
  explicit LineFile(std::filesystem::path path);

  // `line` comes without its newline.
  void write(const std::string& line);
  // Returns when all written lines are on the disk. Any thread may call it.
  void sync() const;

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
};

}  // namespace ptb
