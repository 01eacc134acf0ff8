// The folder of one run: config.toml, log.txt, metrics.jsonl (checkpoints and a manifest come with
// restarts). Written by rank 0 alone.
#pragma once

#include <filesystem>
#include <string>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/base/file.hpp"

namespace ptb {

class RunDirectory {
 public:
  // Creates `path` (empty: runs/<config>-<date>-<time>, made unique); an existing folder without a
  // run in it is fine. Error 74 with path and reason if that cannot be; 2 if it holds another run's
  // files.
  RunDirectory(const std::filesystem::path& path, const std::string& config_name);

  // Writes config.toml: from now on the folder holds a run. Error 74.
  void keep(const ResolvedConfig& config) const;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path file(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// A text file that grows line by line; each line is given to the kernel at once, whole or not at
// all. Error 74 names the file and the reason.
class LineFile {
 public:
  // Appends to what is there.
  explicit LineFile(std::filesystem::path path);

  // `line` comes without its newline.
  void write(const std::string& line);

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
};

}  // namespace ptb
