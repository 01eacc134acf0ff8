// The checkpoint that a run resumes from: rank 0 finds and checks it and tells the other ranks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ptb_dist/base/command_line.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/io/checkpoint.hpp"
#include "ptb_dist/run/identity.hpp"
#include "ptb_dist/run/plan.hpp"

namespace ptb {

struct Restart {
  Progress progress{};
  HostState state{};           // of all global lanes, of the backend's Real
  int global_lanes = 0;        // the checkpoint's, which the run keeps
  bool is_other_text = false;  // as --override data allows

  // On root alone.
  std::optional<CheckpointFile> file{};
  std::vector<std::string> remarks{};   // for the log: the checkpoint, and how exact the result is
  std::vector<std::string> warnings{};  // the checkpoints that were passed over, and why
};

// Error 74 if --resume FILE cannot be opened, 65 if it is no regular file. Called before the text
// is read, which may take minutes. Collective.
void check_resume_is_there(Session& session, const CommandLine& line);

// The checkpoint that --resume names, or the newest good one of the run directory. Nothing if there
// is no checkpoint: a fresh start. AgreedError 65 if every checkpoint is bad, cannot be read (the
// message names each with its reason) or belongs to another corpus; 2 if mathematical keys differ
// that --override does not name; 74 if the given file cannot be read. Collective.
std::optional<Restart> find_restart(Session& session, const CommandLine& line,
                                    const RunIdentity& run);

// AgreedError 2 if `progress` lies beyond the run's epochs; 65 if its window lies beyond an epoch,
// or if its step contradicts epoch and window. With another text on request the step may.
void check_place(const Progress& progress, const Plan& plan, bool is_other_text);

}  // namespace ptb
