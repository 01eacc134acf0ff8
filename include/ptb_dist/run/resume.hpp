// From where a run goes on: rank 0 finds the checkpoint and judges it, the others are told.
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

  // Of root alone.
  std::optional<CheckpointFile> file{};
  std::vector<std::string> remarks{};   // for the log: what is gone on from, and how exactly
  std::vector<std::string> warnings{};  // what was passed over, and why
};

// Error 74, or 65 for what is no regular file, if --resume FILE cannot be opened; said before the
// minutes that a text may take. Collective.
void check_resume_is_there(Session& session, const CommandLine& line);

// As --resume says: the given checkpoint, or the newest good one of the run directory. Nothing if
// there is none: a fresh start. AgreedError 65 if all that are there are bad
// or cannot be read (each is named with its reason), or of another corpus; 2 if mathematical keys
// differ that --override does not name; 74 if the given file cannot be read. Collective.
std::optional<Restart> find_restart(Session& session, const CommandLine& line,
                                    const RunIdentity& run);

// AgreedError 2 if the place lies beyond the run's epochs, 65 if its numbers contradict each other
// or the windows of an epoch; if the text is another one on request, they may.
void check_place(const Progress& progress, const Plan& plan, bool is_other_text);

}  // namespace ptb
