// The ring. Of P ranks each sends to the next and receives from the one before. The elements are
// cut into P chunks. In step s rank r sends chunk r - s and receives chunk r - s - 1 (modulo P):
//   s < P - 1   the received chunk is added to the own one, so that after these steps rank r has
//               the complete sum of chunk r + 1, which began at rank r + 1 and went round;
//   s >= P - 1  the received chunk is complete and replaces the own one.
// So every sum is computed once, in the order of the ring, and copied: the same bits everywhere.
#include "comm/all_reduce.hpp"

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

class RingAllReduce : public AllReduce {
 public:
  RingAllReduce(const AllReduceArguments& arguments, ScratchPool& pool)
      : arguments_(arguments), pool_(pool) {
    mpi::check(MPI_Comm_rank(arguments_.comm, &rank_));
    mpi::check(MPI_Comm_size(arguments_.comm, &size_));
    if (!pool_.empty()) {
      scratch_ = std::move(pool_.back());
      pool_.pop_back();
    }
    const auto longest = static_cast<std::size_t>(arguments_.elements / size_ + 1);
    scratch_.resize(longest * size_of(arguments_.type));
    begin_step();
  }

  bool advance() override {
    if (step_ == last_step()) return true;
    int is_step_over = 0;
    mpi::check(MPI_Testall(2, requests_.data(), &is_step_over, MPI_STATUSES_IGNORE));
    if (!is_step_over) return false;
    if (is_adding()) {
      const Chunk sum = chunk(rank_ - step_ - 1);
      mpi::check(MPI_Reduce_local(scratch_.data(), sum.data, sum.elements,
                                  mpi::datatype(arguments_.type), MPI_SUM));
    }
    if (++step_ < last_step()) {
      begin_step();
      return false;
    }
    pool_.push_back(std::move(scratch_));
    return true;
  }

 private:
  struct Chunk {
    std::byte* data;
    int elements;
  };

  int last_step() const { return 2 * (size_ - 1); }
  bool is_adding() const { return step_ < size_ - 1; }

  // Chunk `index` modulo P, index >= -2P.
  Chunk chunk(int index) const {
    const std::int64_t k = (index + 2 * size_) % size_;
    const std::int64_t first = arguments_.elements * k / size_;
    const std::int64_t end = arguments_.elements * (k + 1) / size_;
    return {arguments_.data + static_cast<std::size_t>(first) * size_of(arguments_.type),
            static_cast<int>(end - first)};
  }

  void begin_step() {
    const MPI_Datatype type = mpi::datatype(arguments_.type);
    const Chunk out = chunk(rank_ - step_);
    const Chunk in = chunk(rank_ - step_ - 1);
    std::byte* to = is_adding() ? scratch_.data() : in.data;
    mpi::check(MPI_Irecv(to, in.elements, type, (rank_ + size_ - 1) % size_, arguments_.tag,
                         arguments_.comm, &requests_[0]));
    mpi::check(MPI_Isend(out.data, out.elements, type, (rank_ + 1) % size_, arguments_.tag,
                         arguments_.comm, &requests_[1]));
  }

  AllReduceArguments arguments_;
  ScratchPool& pool_;
  std::vector<std::byte> scratch_;  // one chunk
  std::array<MPI_Request, 2> requests_{MPI_REQUEST_NULL, MPI_REQUEST_NULL};
  int rank_ = 0;
  int size_ = 1;
  int step_ = 0;
};

}  // namespace

std::unique_ptr<AllReduce> begin_all_reduce(const AllReduceArguments& arguments,
                                            ScratchPool& scratch) {
  const std::size_t bytes = static_cast<std::size_t>(arguments.elements) * size_of(arguments.type);
  if (bytes < kRingBytes) return std::make_unique<SmallAllReduce>(arguments);
  return std::make_unique<RingAllReduce>(arguments, scratch);
}

}  // namespace ptb
