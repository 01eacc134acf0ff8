// Which attempt of a job trains in a run directory, and how it ended: the file .attempt. The next
// attempt reads it, and so does the batch script (launch/ptb_dist.sbatch), for which an exit status
// of 0 alone proves nothing: srun has been seen to end with 0 where no rank was ever started.
#pragma once

#include <filesystem>
#include <string>

#include "ptb_dist/base/error.hpp"
#include "ptb_dist/io/run_directory.hpp"

namespace ptb {

// "<job>.<restart>.<launch>": the job's number, how often the scheduler has started it again, and
// how often the batch script has started the program since, both from 0. It is PTB_DIST_ATTEMPT as
// the batch script sets it; without it, or where it is no such text, "17.2.0" by SLURM_JOB_ID and
// SLURM_RESTART_COUNT; in no job "<host>:<process>:<start in seconds since 1970>". No blanks.
std::string attempt_of_this_process();

// The file, one line, replaced as a whole each time:
//   <attempt> generation=<n> host=<h> pid=<p> since=<UTC> state=<state> code=<exit code, - if none>
class AttemptFile {
 public:
  enum class State {
    running,
    finished,     // all epochs, and the test
    max_windows,  // the end that --max-windows asks for
    stopped,      // on request; to be gone on with
    failed,
  };

  // Writes that this attempt is running. Error 74.
  explicit AttemptFile(const RunDirectory& directory);

  // Writes how it ended, unless a later attempt has taken the file over. Error 74.
  void ends(State state, ExitCode code) const;
  // The same, beside an error that matters more than one of this file.
  void fails(ExitCode code) const noexcept;

 private:
  std::string first_words() const;
  void write(State state, const std::string& code) const;

  std::filesystem::path path_;
  std::string attempt_;
  int generation_;
  std::string since_;
};

}  // namespace ptb
