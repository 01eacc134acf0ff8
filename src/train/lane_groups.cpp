#include "ptb_dist/train/lane_groups.hpp"

#include <algorithm>
#include <bit>

namespace ptb {
namespace {

int first_half(int count) { return (count + 1) / 2; }

// Appends the turns of `count` groups whose sum goes to `slab`.
void add_turns(std::vector<Turn>& turns, int count, int slab) {
  if (count == 1) {
    turns.push_back({.slab = slab});
    return;
  }
  const int half = first_half(count);
  add_turns(turns, half, slab);
  add_turns(turns, count - half, slab + 1);
  ++turns.back().additions;
}

void add_subtree(int first, int count, const std::function<void(int, int)>& add) {
  if (count == 1) return;
  const int half = first_half(count);
  add_subtree(first, half, add);
  add_subtree(first + half, count - half, add);
  add(first, first + half);
}

}  // namespace

std::vector<Turn> tree_turns(int count) {
  std::vector<Turn> turns;
  add_turns(turns, count, 0);
  return turns;
}

int slab_count(const std::vector<Turn>& turns) {
  int slabs = 1;
  for (const Turn& turn : turns) slabs = std::max(slabs, turn.slab + 1);
  return slabs;
}

void for_each_addition(int count, const std::function<void(int, int)>& add) {
  add_subtree(0, count, add);
}

bool is_subtree_each(int groups, int ranks) {
  return std::has_single_bit(static_cast<unsigned>(ranks)) && groups % ranks == 0;
}

std::vector<LaneSlice> groups_of_rank(int lanes, int groups, int rank, int ranks) {
  const LaneSlice mine = deal_lanes(groups, rank, ranks);
  std::vector<LaneSlice> slices;
  for (int group = mine.first; group < mine.first + mine.count; ++group) {
    slices.push_back(deal_lanes(lanes, group, groups));
  }
  return slices;
}

LaneGroups::LaneGroups(Backend& backend, const ModelShape& shape, const Lanes& split,
                       std::span<const LaneSlice> slices, const WorkspaceSize& size)
    : backend_(backend),
      windows_(backend, split, slices,
               size.for_training ? Windows::Use::training : Windows::Use::evaluation) {
  for (const LaneSlice& lanes : slices) {
    auto workspace = workspaces_.find(lanes.count);
    if (workspace == workspaces_.end()) {
      WorkspaceSize own = size;
      own.lanes = lanes.count;
      if (own.softmax_rows == 0) own.softmax_rows = std::int64_t{own.max_steps} * own.lanes;
      workspace = workspaces_.emplace(lanes.count, Workspace(backend, shape, own)).first;
    }
    groups_.push_back({.lanes = lanes,
                       .batch = &windows_.batch(groups_.size()),
                       .state = RecurrentState(backend, shape, lanes.count),
                       .workspace = &workspace->second});
  }
}

void LaneGroups::reset_state() {
  for (LaneGroup& group : groups_) group.state.reset(backend_);
}

}  // namespace ptb
