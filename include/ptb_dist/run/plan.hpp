// What a run will do, worked out before it starts: lanes, windows, memory, messages. The log's
// header and --dry-run print it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/base/config.hpp"
#include "ptb_dist/data/corpus.hpp"
#include "ptb_dist/train/workload.hpp"

namespace ptb {

struct Plan : Workload {
  std::int64_t train_tokens_per_epoch = 0;  // predicted
  std::int64_t parameters = 0;
  std::int64_t parameter_bytes = 0;
  std::int64_t max_rows = 0;          // the most distinct words of any global window
  std::int64_t all_reduce_bytes = 0;  // per window and rank, at most
  std::int64_t rank_bytes = 0;        // of the rank with the most lanes, on its device
  std::int64_t text_bytes = 0;        // ids of all splits, in each rank's host memory
  std::int64_t device_memory = 0;     // of its GPU; 0: it computes in the host's memory
  std::int64_t checkpoint_bytes = 0;  // of a file

  // Lines for the log and --dry-run.
  std::vector<std::string> lines(const Config& config) const;
  // Warnings before training. `ranks_on_a_gpu`: the most ranks that share one GPU.
  std::vector<std::string> warnings(const Config& config, int ranks_on_a_gpu = 1) const;
};

// `kept_lanes` is the global batch of the checkpoint that the run resumes from; it is kept even
// with weak scaling. 0: a fresh start. Error 2: more ranks than lanes with strong scaling; 65: the
// corpus is too short for the lanes.
Plan make_plan(const Config& config, const Corpus& corpus, int ranks, const Backend& backend,
               int kept_lanes = 0);

}  // namespace ptb
