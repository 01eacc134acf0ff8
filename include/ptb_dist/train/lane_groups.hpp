// Groups of lanes that are computed together, and the tree along which their results are added.
//
// The global lanes are dealt into groups, and whole groups to ranks. A group is computed with the
// same shapes wherever it runs. Sums over groups follow one binary tree: of n neighbouring groups
// the first half (the larger, if n is odd) is summed, then the rest, then the two sums are added.
// If the number of ranks is a power of two and divides the number of groups, each rank has a
// subtree, and the sum over ranks follows the rest of the tree (SumOrder::tree). So the bits are
// the same on any such number of ranks.
//
// A rank computes one group after the other. It needs a slab of memory for each level of its
// subtree, not for each group: the result of a group goes to a slab, and slabs are then added, once
// for each subtree that ends with this group. Of 8 groups:
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

// What happens to the result of one group; a rank has one for each group, in their order.
struct Turn {
  int slab = 0;
  int additions = 0;
};
// The last turn leaves the sum in slab 0. count >= 1.
std::vector<Turn> tree_turns(int count);
// Slabs that the turns use.
int slab_count(const std::vector<Turn>& turns);

// The same additions if the results of all groups are in an array of `count` elements: calls
// add(to, from) for each; the last leaves the sum in element 0.
void for_each_addition(int count, const std::function<void(int to, int from)>& add);

// Whether each of `ranks` ranks has a subtree, so that sums have the same bits as on one rank.
bool is_subtree_each(int groups, int ranks);

// The lanes of each group of a rank: `lanes` are dealt to the groups, whole groups to the ranks.
std::vector<LaneSlice> groups_of_rank(int lanes, int groups, int rank, int ranks);

// A group and its data.
struct LaneGroup {
  LaneSlice lanes;
  const Batch* batch = nullptr;
  RecurrentState state{};
  Workspace* workspace = nullptr;  // shared by the rank's groups with the same number of lanes
};

// The groups of a rank on their way through a split.
class LaneGroups {
 public:
  // `slices`: the lanes of each group, in the order in which they are computed. `size` is the size
  // of each workspace, except for `lanes`, which is the group's; softmax_rows 0 means all
  // positions. backend and split outlive this object.
  LaneGroups(Backend& backend, const ModelShape& shape, const Lanes& split,
             std::span<const LaneSlice> slices, const WorkspaceSize& size);

  // See Windows::begin.
  void begin_window(const StepState& step) { windows_.begin(step); }
  // Sets the state to zero, for the beginning of an epoch.
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
