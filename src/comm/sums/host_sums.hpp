// The sums over ranks that are under way, of tensors in host memory.
//
// A sum moves only when it is advanced. So whoever waits, for whatever it is, calls advance() again
// and again, which moves all of them: ranks may wait for their sums in different orders.
#pragma once

#include <memory>
#include <vector>

#include "comm/mpi_api.hpp"
#include "comm/sums/all_reduce.hpp"
#include "ptb_dist/comm/session.hpp"

namespace ptb {

// One sum, in pieces that an MPI call can carry.
class HostSum {
 public:
  explicit HostSum(Tensor tensor) : tensor_(std::move(tensor)) {}
  bool is_over() const { return is_over_; }

 private:
  friend class HostSums;

  Tensor tensor_;  // its memory lives as long as MPI may write to it
  std::vector<std::unique_ptr<AllReduce>> pieces_;
  bool is_over_ = false;
};

class HostSums {
 public:
  // Sums of the ranks of `comm` take the tags first_tag .. first_tag + kTags - 1 in turn; MPI
  // grants at least 32767.
  static constexpr int kTags = 16384;
  HostSums(const mpi::Comm& comm, int first_tag);

  // Null where there is nothing to add: one rank, or no elements. f32 or f64 (70).
  std::shared_ptr<HostSum> begin(const Tensor& tensor, SumOrder order);
  void advance();

 private:
  const mpi::Comm& comm_;
  int ranks_;
  int first_tag_;
  int begun_ = 0;  // modulo kTags
  ScratchPool scratch_;
  std::vector<std::shared_ptr<HostSum>> in_flight_;
};

}  // namespace ptb
