// A sum over ranks in progress, of at most INT_MAX elements.
//
// Small sums are MPI_Iallreduce. From kRingBytes on it is a ring of our own: Open MPI 4.1's
// MPI_Iallreduce of 10 MB takes 2.5 times as long as MPI_Allreduce between 2 ranks (5.0 ms, 1.9 ms;
// the ring about 2 ms), and MPI_Allreduce has no deadline. With 4 and 8 ranks on 2 cores the three
// are alike. Cutting the sum into many MPI_Iallreduce did not help.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "comm/mpi_api.hpp"

namespace ptb {

class AllReduce {
 public:
  virtual ~AllReduce() = default;
  // Does what can be done without waiting; whether the sum is complete.
  virtual bool advance() = 0;
};

inline constexpr std::size_t kRingBytes = std::size_t{1} << 20;

// Memory that sums use again: touching fresh pages costs as much as the sum.
using ScratchPool = std::vector<std::vector<std::byte>>;

struct AllReduceArguments {
  MPI_Comm comm;
  int tag;  // of this sum alone among those in flight
  std::byte* data;
  int elements;
  ElementType type;
};

// Begins the sum. The pool must outlive it. `is_tree`: along a binary tree.
std::unique_ptr<AllReduce> begin_all_reduce(const AllReduceArguments& arguments, bool is_tree,
                                            ScratchPool& scratch);

}  // namespace ptb
