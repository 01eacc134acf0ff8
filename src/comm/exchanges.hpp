// Sums over ranks as lists of exchanges, for whatever carries them: MPI in host memory, NCCL
// between GPUs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ptb {

// A tree's sum is cut from here on; below it half the steps are worth more than less to send.
inline constexpr std::size_t kCutBytes = std::size_t{32} << 10;

// Elements first .. first + count - 1 of a sum.
struct Run {
  std::int64_t first = 0;
  std::int64_t count = 0;
};
// A step of an algorithm of our own: one run leaves, another comes, and is added to the own one or
// takes its place. An algorithm is the list of a rank's exchanges.
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

// The elements of the longest run that is added: what comes in before it is.
std::int64_t longest_addend(const std::vector<Exchange>& exchanges);

}  // namespace ptb
