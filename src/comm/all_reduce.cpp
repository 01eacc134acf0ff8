#include "comm/all_reduce.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace ptb {
namespace {

class SmallAllReduce : public AllReduce {
 public:
  explicit SmallAllReduce(const AllReduceArguments& a) {
    mpi::check(MPI_Iallreduce(MPI_IN_PLACE, a.data, a.elements, mpi::datatype(a.type), MPI_SUM,
                              a.comm, &request_));
  }
  bool advance() override { return mpi::is_over(request_); }

 private:
  MPI_Request request_ = MPI_REQUEST_NULL;
};

// Carries out exchanges, one after the other.
class SteppedAllReduce : public AllReduce {
 public:
  SteppedAllReduce(const AllReduceArguments& arguments, std::vector<Exchange> exchanges,
                   ScratchPool& pool)
      : arguments_(arguments), exchanges_(std::move(exchanges)), pool_(pool) {
    if (!pool_.empty()) {
      scratch_ = std::move(pool_.back());
      pool_.pop_back();
    }
    scratch_.resize(bytes(longest_addend(exchanges_)));
    begin_step();
  }

  bool advance() override {
    if (step_ == exchanges_.size()) return true;
    int is_step_over = 0;
    mpi::check(MPI_Testall(2, requests_.data(), &is_step_over, MPI_STATUSES_IGNORE));
    if (!is_step_over) return false;
    const Exchange& exchange = exchanges_[step_];
    if (exchange.is_added) {
      mpi::check(MPI_Reduce_local(scratch_.data(), address(exchange.in), count(exchange.in),
                                  mpi::datatype(arguments_.type), MPI_SUM));
    }
    if (++step_ < exchanges_.size()) {
      begin_step();
      return false;
    }
    pool_.push_back(std::move(scratch_));
    return true;
  }

 private:
  std::size_t bytes(std::int64_t elements) const {
    return static_cast<std::size_t>(elements) * size_of(arguments_.type);
  }
  // The whole sum's number of elements is an int.
  static int count(Run run) { return static_cast<int>(run.count); }
  std::byte* address(Run run) const { return arguments_.data + bytes(run.first); }

  void begin_step() {
    const MPI_Datatype type = mpi::datatype(arguments_.type);
    const Exchange& exchange = exchanges_[step_];
    std::byte* const to = exchange.is_added ? scratch_.data() : address(exchange.in);
    mpi::check(MPI_Irecv(to, count(exchange.in), type, exchange.from, arguments_.tag,
                         arguments_.comm, &requests_[0]));
    mpi::check(MPI_Isend(address(exchange.out), count(exchange.out), type, exchange.to,
                         arguments_.tag, arguments_.comm, &requests_[1]));
  }

  AllReduceArguments arguments_;
  std::vector<Exchange> exchanges_;  // not empty
  ScratchPool& pool_;
  std::vector<std::byte> scratch_;  // for the longest run that is added
  std::array<MPI_Request, 2> requests_{MPI_REQUEST_NULL, MPI_REQUEST_NULL};
  std::size_t step_ = 0;
};

}  // namespace

// Of P ranks each sends to the next and receives from the one before. The elements are cut into P
// chunks. In step s rank r sends chunk r - s and receives chunk r - s - 1 (modulo P):
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

std::int64_t longest_addend(const std::vector<Exchange>& exchanges) {
  std::int64_t longest = 0;
  for (const Exchange& exchange : exchanges) {
    if (exchange.is_added) longest = std::max(longest, exchange.in.count);
  }
  return longest;
}

std::unique_ptr<AllReduce> begin_all_reduce(const AllReduceArguments& arguments, bool is_tree,
                                            ScratchPool& scratch) {
  const std::size_t bytes = static_cast<std::size_t>(arguments.elements) * size_of(arguments.type);
  if (!is_tree && bytes < kRingBytes) return std::make_unique<SmallAllReduce>(arguments);
  int rank = 0, ranks = 1;
  mpi::check(MPI_Comm_rank(arguments.comm, &rank));
  mpi::check(MPI_Comm_size(arguments.comm, &ranks));
  return std::make_unique<SteppedAllReduce>(
      arguments,
      is_tree ? tree_exchanges(rank, ranks, arguments.elements, bytes >= kCutBytes)
              : ring_exchanges(rank, ranks, arguments.elements),
      scratch);
}

}  // namespace ptb
