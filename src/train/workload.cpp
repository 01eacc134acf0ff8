#include "ptb_dist/train/workload.hpp"

#include "ptb_dist/train/lane_groups.hpp"

namespace ptb {

std::vector<LaneSlice> Workload::groups_of(int rank) const {
  return groups_of_rank(global_lanes, lane_groups, rank, ranks);
}

LaneSlice Workload::lanes_of(int rank) const {
  const std::vector<LaneSlice> groups = groups_of(rank);
  const int first = groups.front().first;
  return {first, groups.back().first + groups.back().count - first, global_lanes};
}

}  // namespace ptb
