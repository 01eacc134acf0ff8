#include "comm/session/roll_call.hpp"

#include <array>
#include <thread>

namespace ptb {

RollCall::RollCall(const mpi::Comm& comm, int tag)
    : comm_(comm.get()),
      tag_(tag),
      rank_(comm.rank()),
      heard_(static_cast<std::size_t>(comm.size())) {}

// Nobody waits for the request: whoever does not take the word must not keep this rank. Nor does an
// error say more than that there will be no answer.
void RollCall::send(Word word, int to) {
  static constexpr std::array kWords = {Word::call, Word::answer};
  const Word* const place = &kWords[word == Word::call ? 0 : 1];
  MPI_Request request = MPI_REQUEST_NULL;
  if (MPI_Isend(place, 1, MPI_BYTE, to, tag_, comm_, &request) != MPI_SUCCESS) return;
  MPI_Request_free(&request);
}

void RollCall::answer() {
  for (;;) {
    int has_come = 0;
    MPI_Status status;
    mpi::check(MPI_Iprobe(MPI_ANY_SOURCE, tag_, comm_, &has_come, &status));
    if (has_come == 0) return;
    Word word{};
    mpi::check(MPI_Recv(&word, 1, MPI_BYTE, status.MPI_SOURCE, tag_, comm_, MPI_STATUS_IGNORE));
    heard_[static_cast<std::size_t>(status.MPI_SOURCE)] = AwakeClock::now();
    if (word == Word::call) send(Word::answer, status.MPI_SOURCE);
  }
}

std::vector<int> RollCall::not_heard_since(AwakeClock::time_point time) const {
  std::vector<int> silent;
  for (int rank = 0; rank < std::ssize(heard_); ++rank) {
    if (rank != rank_ && heard_[static_cast<std::size_t>(rank)] < time) silent.push_back(rank);
  }
  return silent;
}

std::vector<int> RollCall::find_silent(std::chrono::milliseconds patience) {
  const AwakeClock::time_point begin = AwakeClock::now();
  for (int rank = 0; rank < std::ssize(heard_); ++rank) {
    if (rank != rank_) send(Word::call, rank);
  }
  for (;;) {
    answer();
    std::vector<int> silent = not_heard_since(begin - patience);
    if (silent.empty() || AwakeClock::now() > begin + patience) return silent;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace ptb
