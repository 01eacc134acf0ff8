// Asks, when a deadline has passed, which ranks are still there. A rank that waits answers; the
// rank that all wait for does not. The messages have a tag of their own, and a rank that leaves
// need not have received them.
#pragma once

#include <chrono>
#include <vector>

#include "comm/mpi_api.hpp"
#include "ptb_dist/base/awake_clock.hpp"

namespace ptb {

class RollCall {
 public:
  // `comm` outlives it.
  RollCall(const mpi::Comm& comm, int tag);

  // Receives what has come, and answers calls. A rank that waits calls it again and again.
  void answer();
  // Asks every other rank for a sign of life and returns those that stay silent for `patience`,
  // ascending. A message that came up to `patience` before this call counts as well: its sender may
  // have finished its own roll call and left.
  std::vector<int> find_silent(std::chrono::milliseconds patience);

 private:
  enum class Word : char { call, answer };

  void send(Word word, int to);
  std::vector<int> not_heard_since(AwakeClock::time_point time) const;

  MPI_Comm comm_;
  int tag_;
  int rank_;
  std::vector<AwakeClock::time_point> heard_;  // of each rank
};

}  // namespace ptb
