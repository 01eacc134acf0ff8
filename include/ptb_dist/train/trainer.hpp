// The training loop.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/base/fault.hpp"
#include "ptb_dist/comm/communicator.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "ptb_dist/io/checkpoint.hpp"
#include "ptb_dist/io/report.hpp"
#include "ptb_dist/optim/sgd.hpp"
#include "ptb_dist/train/checkpointer.hpp"
#include "ptb_dist/train/evaluator.hpp"
#include "ptb_dist/train/pace.hpp"
#include "ptb_dist/train/plan.hpp"
#include "ptb_dist/train/step.hpp"

namespace ptb {

// What a trainer works with; all of it outlives the trainer.
struct TrainerParts {
  const Config& config;
  const Plan& plan;
  const Corpus& corpus;
  Session& session;
  Communicator& communicator;
  Backend& backend;
  Parameters& parameters;
  Report& report;
  Checkpointer& checkpointer;
  Faults& faults;
  double peak_flops = 0;  // of all ranks' GPUs, for the report; 0: not known, or there are none
};

class Trainer {
 public:
  explicit Trainer(const TrainerParts& parts);

  // Goes on from a checkpoint that fits (restart.hpp): its parameters are loaded already, `state`
  // is of all global lanes and of the backend's Real.
  void go_on(const Progress& progress, const HostState& state);

  enum class End {
    finished,        // all epochs, with validation after each, and the test
    at_max_windows,  // after so many windows of the run, without validation or test
    stopped,         // a signal came to some rank
  };
  // Trains on, with a checkpoint at the end of every epoch, when one is due, and at the end, unless
  // keep_checkpoints is 0.
  // AgreedError 76 when the loss or the gradient norm is not finite (the weights are those before
  // that window), or the validation perplexity.
  End run(std::optional<std::int64_t> max_windows);

  // Tests the parameters that are loaded, those of the best epoch: run() tested the last ones.
  End test_best();
  const Progress& progress() const { return progress_; }

 private:
  EvaluatorParts evaluator_parts(int rank);
  void begin_epoch();
  bool finish_epoch();
  Requests advance();
  void take_results(int left_in_flight, Requests& requests);
  void take_oldest(Requests& requests);
  void save(bool is_best);
  End leave(End end);
  bool test(const char* weights, int epoch);

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

  const Plan& plan_;
  const Corpus& corpus_;
  Communicator& communicator_;
  Backend& backend_;
  Report& report_;
  Checkpointer& checkpointer_;
  Faults& faults_;

  double peak_flops_;
  bool saves_;  // or no checkpoint is written at all
  std::int64_t checkpoint_windows_;
  Schedule schedule_;
  Lanes train_lanes_, valid_lanes_, test_lanes_;
  Step step_;
  Evaluator validation_, test_;

  Progress progress_;                     // of windows whose results are known
  std::deque<Step::InFlight> in_flight_;  // the first is progress_.window
  std::optional<Progress> saved_;         // of the last checkpoint
  std::int64_t last_step_ = 0;            // windows of the run to do
  Pace pace_;
};

}  // namespace ptb
