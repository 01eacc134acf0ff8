// A sum that follows one binary tree, whatever the number of ranks, a power of two.
//
// The tree: rank 0 + rank 1, rank 2 + rank 3, ... are summed first, then the sums of neighbouring
// pairs, then of fours, and so on. If every rank brings the sum of a subtree of its own, the same
// additions are made on 1, 2, 4, ... ranks, only in other places: the bits do not depend on where.
//
// In step s a rank exchanges with the one whose number differs in bit s, its neighbour at distance
// 2^s; both have summed the same elements of 2^s ranks by then.
//   Short sums: both send all elements and add what they receive. After log2(P) steps all have the
//   sum, since a + b and b + a have the same bits.
//   Long sums: the elements are cut in two halves. Each keeps one, sends the other and adds what it
//   receives to the half that it keeps, so that a step moves half as much as the one before and
//   after log2(P) steps every rank has the sum of 1/P of the elements. Then the way back: the
//   finished pieces are exchanged in the reverse order of steps, doubling each time.
// Both make the same additions.
#include <array>
#include <bit>
#include <utility>

#include "comm/all_reduce.hpp"

namespace ptb {
namespace {

// Below it half the steps are worth more than less to send.
constexpr std::size_t kCutBytes = std::size_t{32} << 10;

class TreeAllReduce : public AllReduce {
 public:
  TreeAllReduce(const AllReduceArguments& arguments, ScratchPool& pool)
      : arguments_(arguments), pool_(pool) {
    mpi::check(MPI_Comm_rank(arguments_.comm, &rank_));
    int size = 1;
    mpi::check(MPI_Comm_size(arguments_.comm, &size));
    require(std::has_single_bit(static_cast<unsigned>(size)), "a tree has 1, 2, 4, ... ranks");
    levels_ = std::countr_zero(static_cast<unsigned>(size));
    const std::size_t bytes =
        static_cast<std::size_t>(arguments_.elements) * size_of(arguments_.type);
    is_cut_ = bytes >= kCutBytes;
    if (!pool_.empty()) {
      scratch_ = std::move(pool_.back());
      pool_.pop_back();
    }
    scratch_.resize(bytes);
    kept_[0] = {0, arguments_.elements};
    begin_step();
  }

  bool advance() override {
    if (step_ == last_step()) return true;
    int is_step_over = 0;
    mpi::check(MPI_Testall(2, requests_.data(), &is_step_over, MPI_STATUSES_IGNORE));
    if (!is_step_over) return false;
    if (step_ < levels_) {
      const Range sum = kept_[static_cast<std::size_t>(step_) + 1];
      mpi::check(MPI_Reduce_local(scratch_.data(), address(sum), sum.elements,
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
  struct Range {
    int first = 0;
    int elements = 0;
  };

  int last_step() const { return is_cut_ ? 2 * levels_ : levels_; }
  std::byte* address(Range range) const {
    return arguments_.data + static_cast<std::size_t>(range.first) * size_of(arguments_.type);
  }

  // The half of `whole` that the rank with this bit keeps, or all of it.
  Range half(Range whole, bool is_upper) const {
    if (!is_cut_) return whole;
    const int lower = whole.elements / 2;
    return is_upper ? Range{whole.first + lower, whole.elements - lower}
                    : Range{whole.first, lower};
  }

  void begin_step() {
    const bool is_way_back = step_ >= levels_;
    const int level = is_way_back ? 2 * levels_ - 1 - step_ : step_;
    const auto place = static_cast<std::size_t>(level);
    const bool is_upper = ((rank_ >> level) & 1) != 0;
    kept_[place + 1] = half(kept_[place], is_upper);
    const Range mine = kept_[place + 1];
    const Range theirs = half(kept_[place], !is_upper);
    // On the way there the other's half leaves and mine comes, on the way back it is reversed.
    const Range out = is_way_back ? mine : theirs;
    const Range in = is_way_back ? theirs : mine;
    std::byte* const to = is_way_back ? address(in) : scratch_.data();
    const int partner = rank_ ^ (1 << level);
    const MPI_Datatype type = mpi::datatype(arguments_.type);
    mpi::check(
        MPI_Irecv(to, in.elements, type, partner, arguments_.tag, arguments_.comm, &requests_[0]));
    mpi::check(MPI_Isend(address(out), out.elements, type, partner, arguments_.tag, arguments_.comm,
                         &requests_[1]));
  }

  AllReduceArguments arguments_;
  ScratchPool& pool_;
  std::vector<std::byte> scratch_;
  std::array<MPI_Request, 2> requests_{MPI_REQUEST_NULL, MPI_REQUEST_NULL};
  std::array<Range, 32> kept_{};  // what this rank sums at each level; of an int there are 31
  int rank_ = 0;
  int levels_ = 0;
  int step_ = 0;
  bool is_cut_ = false;
};

}  // namespace

std::unique_ptr<AllReduce> begin_tree_all_reduce(const AllReduceArguments& arguments,
                                                 ScratchPool& scratch) {
  return std::make_unique<TreeAllReduce>(arguments, scratch);
}

}  // namespace ptb
