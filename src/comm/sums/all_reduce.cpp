#include "comm/sums/all_reduce.hpp"

#include <array>
#include <utility>

#include "comm/sums/exchanges.hpp"

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
