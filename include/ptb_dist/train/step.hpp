// One window of training: from its tokens to the updated parameters.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ptb_dist/comm/communicator.hpp"
#include "ptb_dist/model/language_model.hpp"
#include "ptb_dist/optim/sgd.hpp"
#include "ptb_dist/train/lane_groups.hpp"
#include "ptb_dist/train/window_sums.hpp"

namespace ptb {

// What a step works with. The objects that it refers to outlive the step.
struct StepParts {
  Backend& backend;
  Communicator& communicator;
  Parameters& parameters;
  const Lanes& split;
  std::vector<LaneSlice> groups;  // of this rank, at least one
  double keep_prob = 1;
  std::uint64_t seed = 0;  // of dropout
  double max_grad_norm = 0;
};

// The window, and what this rank contributes beside its gradient.
struct StepInputs {
  StepState window{};
  Requests requests{};
  bool spoils_loss = false;  // an injected fault: this rank's loss becomes NaN
};

// Of one window, the same on every rank.
struct StepResult {
  double cross_entropy = 0;  // over global lanes, in nats
  double gradient_norm = 0;  // before the clip
  Requests requests{};
};

class Step {
 public:
  explicit Step(const StepParts& parts);

  // A window whose results are on their way to the host.
  struct InFlight {
    Arrival sum;   // WindowSums::sum()
    Arrival norm;  // [1] f64
  };
  // Enqueues one window. Collective; the same window on every rank.
  InFlight run(const StepInputs& inputs);
  // Makes the host wait for the results; `what` names them if a deadline is missed (70).
  StepResult result(const InFlight& window, const std::string& what);

  LaneGroups& lane_groups() { return groups_; }
  LanguageModel& model() { return model_; }

  // The pieces of run() for the first group, without sums over groups or ranks, so that a tool can
  // measure each. They compute the window that has begun; the step outlives them.
  struct Phase {
    std::string name;
    std::function<void()> enqueue;
  };
  std::vector<Phase> phases();

 private:
  // Gradients and sums of a window: one level of the tree of groups (lane_groups.hpp).
  struct Slab {
    Gradients gradients;
    WindowSums sums;
  };

  void pass_on(const Turn& turn, const std::function<Tensor(const Slab&)>& part,
               const std::string& what, std::vector<Reduction>& sums);
  void update();

  Backend& backend_;
  Communicator& communicator_;
  Parameters& parameters_;
  LanguageModel model_;
  Sgd sgd_;
  LaneGroups groups_;
  std::vector<Turn> turns_;  // of each group
  std::vector<Slab> slabs_;  // the first takes the sum
};

}  // namespace ptb
