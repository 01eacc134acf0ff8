// The run directory in the life of a run: found and locked, cleared of what the run writes again,
// kept complete. All of rank 0 alone.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "ptb_dist/base/command_line.hpp"
#include "ptb_dist/io/attempt.hpp"
#include "ptb_dist/io/checkpoint.hpp"
#include "ptb_dist/io/report.hpp"
#include "ptb_dist/io/run_directory.hpp"

namespace ptb {

class RunFolder {
 public:
  // Locks the folder that a run is to go on in, so that its checkpoints can be read. Any other is
  // not touched yet. Errors of RunDirectory.
  explicit RunFolder(const CommandLine& line);

  // Makes the folder, clears the way for a run that goes on from `from` (null: a fresh start),
  // keeps the configuration and opens log and metrics. From here on something of this run is on the
  // disk, so all else has to be well. Error 74; 2 if the folder holds a run that was not asked for.
  Report open(const CheckpointFile* from, ElementType real);

  // After open().
  const RunDirectory& directory() const { return *directory_; }
  const AttemptFile& attempt() const { return *attempt_; }
  // The attempt ends by an error, which matters more than one of its file. At any time.
  void fails(ExitCode code) const noexcept;
  // What open() did to checkpoints that were there, for the log.
  const std::vector<std::string>& remarks() const { return remarks_; }

 private:
  void lock(RunDirectory::Purpose purpose);

  const CommandLine& line_;
  std::optional<RunDirectory> directory_;
  std::optional<AttemptFile> attempt_;
  std::vector<std::string> remarks_;
};

// Makes a folder of checkpoints and its metrics those of a run that goes on from `from`: newer
// checkpoints are set aside, `from` and the best of its epochs are in it, and records that come
// again are cut. Null: a fresh start. Returns what it did, for the log. A kill at any moment leaves
// a folder that the run can go on from. Error 74.
std::vector<std::string> clear_the_way(const RunDirectory& directory, const CheckpointFile* from);

// best.h5, if it is there, good, and could be of a run that stands at `progress`.
std::optional<CheckpointFile> best_of(const CheckpointFolder& folder, const Progress& progress);

}  // namespace ptb
