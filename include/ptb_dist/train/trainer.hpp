// The training loop.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/comm/communicator.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "ptb_dist/io/report.hpp"
#include "ptb_dist/model/language_model.hpp"
#include "ptb_dist/optim/sgd.hpp"
#include "ptb_dist/train/evaluator.hpp"
#include "ptb_dist/train/plan.hpp"

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
};

// Lanes that are computed together, and what a window of them needs. A rank has one group.
struct LaneGroup {
  LaneGroup(const TrainerParts& parts, LaneSlice slice);

  LaneSlice lanes;
  Window window;
  Batch batch;
  RecurrentState state;
  Workspace workspace;
};

// Where a run is. Sums are of the epoch in hand.
struct Progress {
  int epoch = 0;
  int window = 0;            // of the epoch
  std::int64_t step = 0;     // windows of the run done
  double cross_entropy = 0;  // over global lanes, of the windows done
  double seconds = 0;        // training
};

class Trainer {
 public:
  explicit Trainer(const TrainerParts& parts);

  // Trains to the last epoch, with validation after each, and tests the final weights; or stops
  // after `max_windows` windows of the run, with neither. AgreedError 76 when the loss or the
  // gradient norm is not finite (the weights are those before that window), or the validation
  // perplexity.
  void run(std::optional<std::int64_t> max_windows);

 private:
  // Of one window, the same on every rank.
  struct StepResult {
    double cross_entropy = 0;  // over global lanes
    double gradient_norm = 0;  // before the clip
  };

  void begin_epoch();
  void finish_epoch();
  void advance_window();
  void train_step();
  StepResult last_result();

  void report_window(const StepResult& result);
  bool is_progress_window() const;
  AgreedError diverged(const std::string& when, const std::string& why) const;
  double learning_rate() const { return schedule_.at(progress_.epoch); }
  Perplexity train_perplexity(int windows) const;
  double words_per_second(int windows) const;

  const Plan& plan_;
  const Corpus& corpus_;
  Communicator& communicator_;
  Backend& backend_;
  Parameters& parameters_;
  Report& report_;

  Schedule schedule_;
  Lanes train_lanes_, valid_lanes_, test_lanes_;
  LanguageModel model_;
  Sgd sgd_;
  Evaluator validation_, test_;
  LaneGroup group_;
  Gradients gradients_;
  Tensor loss_;  // [1] f64

  Progress progress_;
  std::int64_t last_step_ = 0;  // windows of the run to do
};

}  // namespace ptb
