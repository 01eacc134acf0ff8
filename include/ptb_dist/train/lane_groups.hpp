// Lanes that are computed together, and the tree along which what groups have is added.
//
// The global lanes are dealt into groups, the groups to ranks in whole. A group is computed with
// the same shapes wherever it runs. Sums over groups follow one binary tree: of n neighbouring
// groups the first half (the larger, if n is odd) is summed, then the rest, then the two sums are
// added. Ranks that are a power of two and divide the number of groups have a subtree each, and the
// sum over ranks follows the rest of the tree (SumOrder::tree): the same bits on any such number.
//
// A rank computes its groups in turn and needs a slab of memory for each level of its subtree, not
// for each group: a group's result goes to the slab of its turn, and is then added to the slabs
// before it, as often as a subtree ends with it. Of 8 groups:
//
//   group                 0   1   2   3   4   5   6   7
//   slab                  0   1   1   2   1   2   2   3
//   additions after it    0   1   0   2   0   1   0   3    slab s-1 += slab s, s-2 += s-1, ...
#pragma once

#include <functional>
#include <map>
#include <span>
#include <vector>

#include "ptb_dist/model/language_model.hpp"

namespace ptb {

// One group of a rank, in the order in which they are computed.
struct Turn {
  int slab = 0;
  int additions = 0;
};
// The last turn leaves the sum in slab 0. count >= 1.
std::vector<Turn> tree_turns(int count);
// Slabs that the turns use.
int slab_count(const std::vector<Turn>& turns);

// The same additions for elements 0 .. count - 1 of an array that is all there: calls
// add(to, from) for each, the last of which leaves the sum in element 0.
void for_each_addition(int count, const std::function<void(int to, int from)>& add);

// Whether each of so many ranks has a subtree, so that sums have the same bits as on one rank.
bool is_subtree_each(int groups, int ranks);

// The groups of a rank, as lanes: `lanes` are dealt to the groups, groups to ranks in whole.
std::vector<LaneSlice> groups_of_rank(int lanes, int groups, int rank, int ranks);

// A group and what is its own.
struct LaneGroup {
  LaneSlice lanes;
  const Batch* batch = nullptr;
  RecurrentState state{};
  Workspace* workspace = nullptr;  // shared by the groups of a rank that have as many lanes
};

// The groups of a rank on their way through a split.
class LaneGroups {
 public:
  // `slices`: the lanes of each group, in the order in which they are computed. `size` is that of
  // each workspace but for its lanes, which are the group's; softmax_rows 0 means all positions.
  // backend and split outlive it.
  LaneGroups(Backend& backend, const ModelShape& shape, const Lanes& split,
             std::span<const LaneSlice> slices, const WorkspaceSize& size);

  // See Windows::begin.
  void begin_window(const StepState& step) { windows_.begin(step); }
  // Zero, as an epoch begins.
  void reset_state();

  std::span<LaneGroup> groups() { return groups_; }
  const BatchWords& words() const { return windows_.words(); }  // training only

 private:
  Backend& backend_;
  Windows windows_;
  // By their number of lanes: a group has the same shapes wherever it runs, and only one is
  // computed at a time.
  std::map<int, Workspace> workspaces_;
  std::vector<LaneGroup> groups_;
};

}  // namespace ptb
