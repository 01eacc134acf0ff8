// What a run trains, in numbers: the model, how its lanes are dealt to the ranks, how many windows.
// The same on every rank.
#pragma once

#include <cstdint>
#include <vector>

#include "ptb_dist/data/lanes.hpp"
#include "ptb_dist/model/parameters.hpp"

namespace ptb {

struct Workload {
  ModelShape model;
  int ranks = 1;
  int global_lanes = 0;  // batch_size (strong) or ranks · batch_size (weak)
  int lane_groups = 1;   // over all ranks
  int num_steps = 0;
  int windows_per_epoch = 0;
  int epochs = 0;
  double flops_per_word = 0;  // of the products, forward + backward

  LaneSlice lanes_of(int rank) const;
  std::vector<LaneSlice> groups_of(int rank) const;
};

}  // namespace ptb
