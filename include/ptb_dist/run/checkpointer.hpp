// Saves a run while it trains. Between two windows rank 0 builds the bytes of a file in memory;
// then a thread writes them to the disk.
#pragma once

#include <atomic>
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
#include "ptb_dist/run/identity.hpp"
#include "ptb_dist/run/plan.hpp"
#include "ptb_dist/train/saver.hpp"

namespace ptb {

// Where rank 0 saves, and what stays the same from save to save.
struct SavePlace {
  CheckpointFolder folder;
  int generation = 0;
  int keep = 1;           // of the newest
  double minutes = 0;     // from one save to the next; 0: no save by time
  CheckpointInfo info{};  // its progress is that of each save
};

// The place of this run. Makes its folder of checkpoints; warns if the disk has little room. Error
// 74.
SavePlace save_place(const RunDirectory& directory, const RunIdentity& identity,
                     const Config& config, const Plan& plan, Report& report);

class Checkpointer final : public Saver {
 public:
  // `place` is null on all ranks but rank 0; its folder exists (CheckpointFolder::prepare). All
  // other arguments outlive the checkpointer.
  Checkpointer(Session& session, Backend& backend, const Parameters& parameters, Report& report,
               Faults& faults, std::optional<SavePlace> place);
  // Waits for a save under way and ignores its error. Ends the job with 74 if the disk takes longer
  // than the session's deadline.
  ~Checkpointer() override;
  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;

  // Reports a save that has ended. True on rank 0 if a save is due, or if the last one failed: the
  // next save() throws that error on all ranks. False while a save is under way.
  bool wants_save() override;
  // Waits for the previous save; error 74 if the disk does not take it within the session's
  // deadline.
  void save(const Progress& progress, std::span<const LaneGroup> groups, bool is_best) override;
  void finish() override;

  // Seconds that the longest save took from its beginning to the disk; before the first one a guess
  // by the size of the parameters. Of any thread.
  double longest_save() const { return longest_save_; }

 private:
  HostState gathered(std::span<const LaneGroup> groups);
  // What the thread writes to the disk.
  struct Save {
    UnsealedCheckpoint image;
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
  std::atomic<double> longest_save_;
  bool is_save_measured_ = false;       // of the thread that saves
  std::future<std::string> under_way_;  // the log line of the save
  std::exception_ptr failure_;          // of a save that has ended
};

}  // namespace ptb
