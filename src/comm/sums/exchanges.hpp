// The two algorithms of our own for sums over ranks, a ring and a tree, as lists of exchanges: for
// whatever carries them, MPI in host memory or NCCL between GPUs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ptb_dist/comm/session.hpp"

namespace ptb {

// A tree's sum is cut from here on; below it half the steps are worth more than less to send.
inline constexpr std::size_t kCutBytes = std::size_t{32} << 10;

// Elements first .. first + count - 1 of a sum.
struct Run {
  std::int64_t first = 0;
  std::int64_t count = 0;
};
// A step of an algorithm: one run leaves, another comes, and is added to the own one or takes its
// place. An algorithm is the list of a rank's exchanges.
struct Exchange {
  int to = 0;  // ranks
  int from = 0;
  Run out{}, in{};
  bool is_added = false;
};
// Of rank `rank` of `ranks`; both are explained before their code.
std::vector<Exchange> ring_exchanges(int rank, int ranks, std::int64_t elements);
// `ranks` is a power of two (70). Long sums are `cut` in halves, with the same additions.
std::vector<Exchange> tree_exchanges(int rank, int ranks, std::int64_t elements, bool is_cut);

// Whether a sum in this order is made along the tree: it is asked for, and the number of ranks is a
// power of two.
bool is_along_tree(SumOrder order, int ranks);

// The elements of the longest run that is added: what comes in before it is.
std::int64_t longest_addend(const std::vector<Exchange>& exchanges);

}  // namespace ptb
