#include "comm/sums/exchanges.hpp"

#include <algorithm>
#include <bit>

#include "ptb_dist/base/error.hpp"

namespace ptb {

bool is_along_tree(SumOrder order, int ranks) {
  return order == SumOrder::tree && std::has_single_bit(static_cast<unsigned>(ranks));
}

// The ring. Of P ranks each sends to the next and receives from the one before. The elements are
// cut into P chunks. In step s rank r sends chunk r - s and receives chunk r - s - 1 (modulo P):
//   s < P - 1   the received chunk is added to the own one, so that after these steps rank r has
//               the complete sum of chunk r + 1, which began at rank r + 1 and went round;
//   s >= P - 1  the received chunk is complete and replaces the own one.
// So every sum is computed once, in the order of the ring, and copied: the same bits everywhere.
std::vector<Exchange> ring_exchanges(int rank, int ranks, std::int64_t elements) {
  const auto chunk = [&](int index) {  // modulo P, index >= -2P
    const std::int64_t k = (index + 2 * ranks) % ranks;
    const std::int64_t first = elements * k / ranks;
    const std::int64_t end = elements * (k + 1) / ranks;
    return Run{first, end - first};
  };
  std::vector<Exchange> exchanges;
  for (int step = 0; step < 2 * (ranks - 1); ++step) {
    exchanges.push_back({.to = (rank + 1) % ranks,
                         .from = (rank + ranks - 1) % ranks,
                         .out = chunk(rank - step),
                         .in = chunk(rank - step - 1),
                         .is_added = step < ranks - 1});
  }
  return exchanges;
}

// The tree, whatever the number of ranks, a power of two: rank 0 + rank 1, rank 2 + rank 3, ... are
// summed first, then the sums of neighbouring pairs, then of fours, and so on. If every rank brings
// the sum of a subtree of its own, the same additions are made on 1, 2, 4, ... ranks, only in other
// places: the bits do not depend on where.
//
// In level s a rank exchanges with the one whose number differs in bit s, its neighbour at distance
// 2^s; both have summed the same elements of 2^s ranks by then.
//   Short sums: both send all elements and add what they receive. After log2(P) levels all have the
//   sum, since a + b and b + a have the same bits.
//   Long sums: the elements are cut in two halves. Each keeps one, sends the other and adds what it
//   receives to the half that it keeps, so that a level moves half as much as the one before and
//   after log2(P) of them every rank has the sum of 1/P of the elements. Then the way back: the
//   finished pieces are exchanged from the last level to the first, doubling each time.
// Both make the same additions.
std::vector<Exchange> tree_exchanges(int rank, int ranks, std::int64_t elements, bool is_cut) {
  require(std::has_single_bit(static_cast<unsigned>(ranks)), "a tree has 1, 2, 4, ... ranks");
  std::vector<Exchange> exchanges;
  Run kept{0, elements};
  for (int distance = 1; distance < ranks; distance *= 2) {
    const int partner = rank ^ distance;
    Run sent = kept;
    if (is_cut) {
      const Run lower{kept.first, kept.count / 2};
      const Run upper{kept.first + lower.count, kept.count - lower.count};
      kept = rank < partner ? lower : upper;
      sent = rank < partner ? upper : lower;
    }
    exchanges.push_back(
        {.to = partner, .from = partner, .out = sent, .in = kept, .is_added = true});
  }
  for (std::size_t level = exchanges.size(); is_cut && level-- > 0;) {
    const Exchange there = exchanges[level];
    exchanges.push_back({.to = there.to, .from = there.from, .out = there.in, .in = there.out});
  }
  return exchanges;
}

std::int64_t longest_addend(const std::vector<Exchange>& exchanges) {
  std::int64_t longest = 0;
  for (const Exchange& exchange : exchanges) {
    if (exchange.is_added) longest = std::max(longest, exchange.in.count);
  }
  return longest;
}

}  // namespace ptb
