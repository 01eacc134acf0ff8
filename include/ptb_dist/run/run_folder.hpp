// The run directory of a run: locks it, removes what the run will write again, and keeps it
// complete. Only rank 0 uses it.
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
  // If the run resumes, locks its folder, so that its checkpoints can be read. Any other folder is
  // not touched yet. Errors of RunDirectory.
  explicit RunFolder(const CommandLine& line);

  // Makes the folder, prepares it for a run that resumes from `from` (null: a fresh start), keeps
  // the configuration and opens log and metrics. From here on this run leaves files, so all other
  // checks come before. Error 74; 2 if the folder holds a run and no flag says what to do with it.
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

// Prepares checkpoints and metrics for a run that resumes from `from` (null: a fresh start): sets
// newer checkpoints aside, puts `from` and the best of its epochs into the folder, and cuts records
// that the run will write again. Returns what it did, for the log. After a kill at any moment the
// run can still resume from the folder. Error 74.
std::vector<std::string> clear_the_way(const RunDirectory& directory, const CheckpointFile* from);

// best.h5, if it exists, is good, and can belong to a run that has come to `progress`.
std::optional<CheckpointFile> best_of(const CheckpointFolder& folder, const Progress& progress);

}  // namespace ptb
