// The identity of a run: its text, and what must be equal to repeat the run bit for bit.
#pragma once

#include <string>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "ptb_dist/io/checkpoint.hpp"
#include "ptb_dist/run/machine.hpp"

namespace ptb {

// What this job adds to its exact class. With lane groups the class is the same on any number of
// ranks for which each rank has a subtree of the groups.
struct JobClass {
  std::string backend;       // Backend::identity()
  std::string communicator;  // its name
  int threads = 1;           // of this rank
  int lane_groups = 0;       // of the configuration
};
// Collective; on root.
ExactClass exact_class_of(Session& session, const JobClass& job);

// What a checkpoint is compared with. Only root has it; `real` is on every rank.
struct RunIdentity {
  CorpusIdentity corpus{};
  std::string corpus_source{};  // its name in messages
  ExactClass exact_class{};
  ElementType real = ElementType::f32;
};

// Collective.
RunIdentity identity_of_run(Session& session, const Machine& machine, const Corpus& corpus,
                            const Config& config);

}  // namespace ptb
