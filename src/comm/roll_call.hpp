// Who is still there, asked when a deadline has passed: ranks that wait answer, the one that all
// wait for does not. Messages of its own tag, which a rank that leaves may leave behind.
#pragma once

#include <chrono>
#include <vector>

#include "comm/mpi_api.hpp"
#include "ptb_dist/base/awake_clock.hpp"

namespace ptb {

class RollCall {
 public:
  RollCall(MPI_Comm comm, int tag);

  // Takes what has come, and answers calls. To be called again and again by a rank that waits.
  void answer();
  // Calls all other ranks; those of which nothing is heard in that time, ascending. Heard just
  // before counts, too: who has called, and got all answers, leaves.
  std::vector<int> find_silent(std::chrono::milliseconds patience);

 private:
  enum class Word : char { call, answer };

  void send(Word word, int to);
  std::vector<int> not_heard_since(AwakeClock::time_point time) const;

  MPI_Comm comm_;
  int tag_;
  int rank_ = 0;
  std::vector<AwakeClock::time_point> heard_;  // of each rank
};

}  // namespace ptb
