// The tree of groups: its turns, its additions, and that ranks have subtrees of it.
#define BOOST_TEST_MODULE train
#include "ptb_dist/train/lane_groups.hpp"

#include <boost/test/unit_test.hpp>
#include <string>
#include <vector>

using namespace ptb;

namespace {

// How a sum was made, in brackets: "((0+1)+2)".
std::string tree(int first, int count) {
  if (count == 1) return std::to_string(first);
  const int half = (count + 1) / 2;
  return '(' + tree(first, half) + '+' + tree(first + half, count - half) + ')';
}

// The sum that the turns make of groups first .. first + count - 1.
std::string by_turns(int first, int count) {
  const std::vector<Turn> turns = tree_turns(count);
  std::vector<std::string> slabs(static_cast<std::size_t>(slab_count(turns)));
  for (std::size_t group = 0; group < turns.size(); ++group) {
    auto slab = static_cast<std::size_t>(turns[group].slab);
    slabs[slab] = std::to_string(first + static_cast<int>(group));
    for (int i = 0; i < turns[group].additions; ++i, --slab) {
      slabs[slab - 1] = '(' + slabs[slab - 1] + '+' + slabs[slab] + ')';
    }
  }
  return slabs.front();
}

std::string by_additions(int first, int count) {
  std::vector<std::string> sums;
  for (int group = first; group < first + count; ++group) sums.push_back(std::to_string(group));
  for_each_addition(count, [&](int to, int from) {
    std::string& sum = sums[static_cast<std::size_t>(to)];
    sum = '(' + sum + '+' + sums[static_cast<std::size_t>(from)] + ')';
  });
  return sums.front();
}

// The sums of `ranks` ranks, added as SumOrder::tree does.
std::string over_ranks(int groups, int ranks) {
  std::vector<std::string> sums;
  for (int rank = 0; rank < ranks; ++rank) {
    const LaneSlice mine = deal_lanes(groups, rank, ranks);
    sums.push_back(by_turns(mine.first, mine.count));
  }
  for (std::size_t distance = 1; distance < sums.size(); distance *= 2) {
    for (std::size_t rank = 0; rank < sums.size(); rank += 2 * distance) {
      sums[rank] = '(' + sums[rank] + '+' + sums[rank + distance] + ')';
    }
  }
  return sums.front();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(lane_groups)

BOOST_AUTO_TEST_CASE(turns_and_additions_follow_the_tree) {
  for (int count = 1; count <= 33; ++count) {
    BOOST_TEST(by_turns(0, count) == tree(0, count));
    BOOST_TEST(by_additions(0, count) == tree(0, count));
  }
  BOOST_TEST(by_turns(0, 3) == "((0+1)+2)");
}

BOOST_AUTO_TEST_CASE(slabs_are_as_many_as_the_tree_has_levels) {
  for (const auto& [groups, slabs] :
       {std::pair{1, 1}, {2, 2}, {3, 2}, {4, 3}, {5, 3}, {8, 4}, {16, 5}}) {
    BOOST_TEST(slab_count(tree_turns(groups)) == slabs, groups);
  }
}

BOOST_AUTO_TEST_CASE(ranks_that_divide_the_groups_make_the_same_additions) {
  for (int groups = 1; groups <= 24; ++groups) {
    for (int ranks = 1; ranks <= groups; ++ranks) {
      const bool is_power = ranks == 1 || ranks == 2 || ranks == 4 || ranks == 8 || ranks == 16;
      BOOST_TEST(is_subtree_each(groups, ranks) == (is_power && groups % ranks == 0));
      if (is_subtree_each(groups, ranks)) {
        BOOST_TEST(over_ranks(groups, ranks) == tree(0, groups), groups << " on " << ranks);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_group_has_the_same_lanes_wherever_it_is) {
  const std::vector<LaneSlice> all = groups_of_rank(20, 8, 0, 1);
  BOOST_TEST_REQUIRE(all.size() == 8u);
  BOOST_TEST((all.front() == LaneSlice{0, 3, 20}));
  BOOST_TEST((all.back() == LaneSlice{18, 2, 20}));
  for (const int ranks : {2, 3, 4, 5, 8}) {
    std::vector<LaneSlice> dealt;
    for (int rank = 0; rank < ranks; ++rank) {
      for (const LaneSlice& group : groups_of_rank(20, 8, rank, ranks)) dealt.push_back(group);
    }
    BOOST_TEST((dealt == all), ranks);
  }
}

BOOST_AUTO_TEST_SUITE_END()
