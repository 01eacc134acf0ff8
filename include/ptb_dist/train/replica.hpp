// What a rank computes with: its copy of the model, its lanes of every split, and all memory that
// windows of training, validation and test need. Once a replica is there, a run allocates no more.
#pragma once

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/comm/communicator.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "ptb_dist/io/checkpoint.hpp"
#include "ptb_dist/train/evaluator.hpp"
#include "ptb_dist/train/step.hpp"
#include "ptb_dist/train/workload.hpp"

namespace ptb {

// What a replica works with; all of it outlives the replica.
struct ReplicaParts {
  const Config& config;
  const Workload& work;
  const Corpus& corpus;
  Communicator& communicator;
  Backend& backend;
  Parameters& parameters;
  int rank = 0;
};

class Replica {
 public:
  // Error 69 if memory does not suffice, 65 if the corpus is too short for the lanes.
  explicit Replica(const ReplicaParts& parts);
  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;

  Step& step() { return step_; }
  Evaluator& validation() { return validation_; }
  Evaluator& test() { return test_; }

  // The state that the lanes have between two windows: that of a checkpoint, of all global lanes
  // and of the backend's real type.
  void set_state(const HostState& state);

 private:
  Backend& backend_;
  Lanes train_lanes_, valid_lanes_, test_lanes_;
  Step step_;
  Evaluator validation_, test_;
};

}  // namespace ptb
