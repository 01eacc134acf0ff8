#include "comm/sums/host_sums.hpp"

#include "comm/sums/exchanges.hpp"

namespace ptb {

HostSums::HostSums(const mpi::Comm& comm, int first_tag)
    : comm_(comm), ranks_(comm.size()), first_tag_(first_tag) {}

std::shared_ptr<HostSum> HostSums::begin(const Tensor& tensor, SumOrder order) {
  if (ranks_ == 1 || tensor.empty()) return nullptr;
  const auto sum = std::make_shared<HostSum>(tensor);
  auto* const data = static_cast<std::byte*>(tensor.raw());
  mpi::for_each_piece(tensor.bytes(), [&](std::size_t first, int bytes) {
    const AllReduceArguments piece{
        .comm = comm_.get(),
        .tag = first_tag_ + begun_,
        .data = data + first,
        .elements = bytes / static_cast<int>(size_of(tensor.type())),
        .type = tensor.type(),
    };
    begun_ = (begun_ + 1) % kTags;
    sum->pieces_.push_back(begin_all_reduce(piece, is_along_tree(order, ranks_), scratch_));
  });
  in_flight_.push_back(sum);
  return sum;
}

void HostSums::advance() {
  for (const auto& sum : in_flight_) {
    sum->is_over_ = true;
    for (const auto& piece : sum->pieces_) sum->is_over_ = piece->advance() && sum->is_over_;
  }
  std::erase_if(in_flight_, [](const auto& sum) { return sum->is_over_; });
}

}  // namespace ptb
