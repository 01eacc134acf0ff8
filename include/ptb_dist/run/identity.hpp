// What a run is a run of, and what must be equal for it to be repeated bit for bit.
#pragma once

#include <string>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/comm/session.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "ptb_dist/io/checkpoint.hpp"
#include "ptb_dist/run/machine.hpp"

namespace ptb {

// Of this job: with lane groups, on any number of ranks that has a subtree of them each.
struct JobClass {
  std::string backend;       // Backend::identity()
  std::string communicator;  // its name
  int threads = 1;           // of this rank
  int lane_groups = 0;       // of the configuration
};
// Collective; on root.
ExactClass exact_class_of(Session& session, const JobClass& job);

// What a checkpoint is compared with. Of root alone but for `real`.
struct RunIdentity {
  CorpusIdentity corpus{};
  std::string corpus_source{};  // what messages call it
  ExactClass exact_class{};
  ElementType real = ElementType::f32;
};

// Collective.
RunIdentity identity_of_run(Session& session, const Machine& machine, const Corpus& corpus,
                            const Config& config);

}  // namespace ptb
