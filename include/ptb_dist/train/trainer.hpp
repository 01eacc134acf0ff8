// The training loop: epochs of windows, whose results the host reads late, and what is done between
// them.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/base/fault.hpp"
#include "ptb_dist/io/checkpoint.hpp"
#include "ptb_dist/io/report.hpp"
#include "ptb_dist/optim/sgd.hpp"
#include "ptb_dist/train/pace.hpp"
#include "ptb_dist/train/replica.hpp"
#include "ptb_dist/train/saver.hpp"
#include "ptb_dist/train/workload.hpp"

namespace ptb {

// What a trainer works with; all of it outlives the trainer.
struct TrainerParts {
  const Config& config;
  const Workload& work;
  Backend& backend;
  Replica& replica;
  Report& report;
  Saver& saver;
  Faults& faults;
  double perplexity_bound = 0;  // > 0: what no model can beat on this text, for the report
  double peak_flops = 0;  // of all ranks' GPUs, for the report; 0: not known, or there are none
};

class Trainer {
 public:
  // Begins at `from`: the progress of a checkpoint whose parameters and state are in the replica,
  // or the beginning of a run.
  explicit Trainer(const TrainerParts& parts, const Progress& from = {});

  enum class End {
    finished,        // all epochs, with validation after each, and the test
    at_max_windows,  // after so many windows of the run, without validation or test
    stopped,         // a signal came to some rank
  };
  // Trains. Saves a checkpoint when one is due, at the end of each epoch and at the end of the run,
  // unless keep_checkpoints is 0.
  // AgreedError 76 if a loss or gradient norm is not finite (the weights are those before that
  // window), or if a validation perplexity is not.
  End run(std::optional<std::int64_t> max_windows);

  // Tests the parameters that are in the replica. `weights` (final | best) and `epoch`, from 0, are
  // for the report.
  End test(const char* weights, int epoch);
  const Progress& progress() const { return progress_; }

  // Seconds of the longest window so far. Of any thread.
  double longest_window() const { return longest_window_; }

 private:
  void begin_epoch();
  bool finish_epoch();
  Requests advance();
  void take_results(int left_in_flight, Requests& requests);
  void take_oldest(Requests& requests);
  void save(bool is_best);
  End leave(End end);

  void report_window(const StepResult& result);
  bool is_progress_window() const;
  AgreedError diverged(const std::string& when, const std::string& why) const;
  double learning_rate() const { return schedule_.at(progress_.epoch); }
  // The window to begin next: those in flight are not in progress_ yet. Never beyond an epoch.
  int next_window() const { return progress_.window + static_cast<int>(in_flight_.size()); }
  std::int64_t next_step() const { return progress_.step + std::ssize(in_flight_); }
  std::int64_t words(int windows) const;
  double words_per_second() const;
  Perplexity train_perplexity(int windows) const;

  const Workload& work_;
  Backend& backend_;
  Replica& replica_;
  Step& step_;
  Report& report_;
  Saver& saver_;
  Faults& faults_;

  double perplexity_bound_, peak_flops_;
  bool saves_;  // false: no checkpoint is written at all
  std::int64_t checkpoint_windows_;
  Schedule schedule_;

  Progress progress_;                     // of windows whose results are known
  std::deque<Step::InFlight> in_flight_;  // the first is progress_.window
  std::optional<Progress> saved_;         // of the last checkpoint
  std::int64_t last_step_ = 0;            // windows of the run to do
  Pace pace_;
  std::atomic<double> longest_window_ = 0;  // seconds
};

}  // namespace ptb
