// Saves the run while it goes on: rank 0 copies everything into the bytes of a file between two
// windows, and a thread of its own brings them to the disk.
#pragma once

#include <cstddef>
#include <exception>
#include <filesystem>
#include <future>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ptb_dist/base/fault.hpp"
#include "ptb_dist/base/stopwatch.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/io/checkpoint.hpp"
#include "ptb_dist/io/checkpoint_folder.hpp"
#include "ptb_dist/io/report.hpp"
#include "ptb_dist/train/lane_groups.hpp"

namespace ptb {

// Where rank 0 saves, and what stays the same from save to save.
struct SavePlace {
  CheckpointFolder folder;
  int generation = 0;
  int keep = 1;           // of the newest
  double minutes = 0;     // from one save to the next; 0: not by the clock
  CheckpointInfo info{};  // its progress is that of each save
};

class Checkpointer {
 public:
  // Nothing is saved before begin(). All arguments outlive the checkpointer.
  Checkpointer(Session& session, Backend& backend, const Parameters& parameters, Report& report,
               Faults& faults);
  // Waits for a save under way; what it threw is lost. Ends the job with 74 if the disk takes
  // longer than the session's deadline.
  ~Checkpointer();
  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;

  // Of rank 0 alone.
  void begin(SavePlace place);

  // Tells of a save that is over; whether rank 0 wants to save now: the time has come, or the last
  // save has failed, which the next one tells to all. While one is under way it does not. False on
  // other ranks.
  bool poll();

  // Saves the run as it is between two windows, with the state of this rank's groups. The file is
  // also best.h5 if `is_best`. Waits for the save before, and throws what that threw; error 74 if
  // the disk does not take it within the session's deadline. Collective.
  void save(const Progress& progress, std::span<const LaneGroup> groups, bool is_best);
  // Waits until what was saved last is on the disk. Collective.
  void finish();

 private:
  HostState gathered(std::span<const LaneGroup> groups);
  // What the thread brings to the disk.
  struct Save {
    std::vector<std::byte> image;
    std::int64_t step = 0;
    bool is_best = false;
    double waited = 0;  // seconds that training stood still for it
  };
  void write(Save save);
  bool is_over(Session::Seconds patience) const;
  void collect();
  void join();

  Session& session_;
  Backend& backend_;
  const Parameters& parameters_;
  Report& report_;
  Faults& faults_;

  std::optional<SavePlace> place_;
  Stopwatch since_save_{};
  std::future<std::string> under_way_;  // the line that tells of it
  std::exception_ptr failure_;          // of a save that is over
};

}  // namespace ptb
