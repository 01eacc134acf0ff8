// The process's place among the ranks: the only owner of MPI.
//
// Every wait has a deadline (set_timeout). The clock stands still while this rank itself is
// stopped. A rank that misses the deadline throws Error 70 at most one second later; the message
// says what it waited for and which ranks gave no sign of life. MPI may still write to the memory
// of the call that was given up, so the only safe way on is abort(). Three calls have no deadline:
// MPI_Init and the copies of its communicators, with which a session begins, and MPI_Finalize.
//
// Collective calls are made by all ranks in the same order, by one thread of each at a time. Calls
// block unless they say otherwise. Lengths are 64-bit throughout.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "ptb_dist/backend/tensor.hpp"
#include "ptb_dist/base/archive.hpp"
#include "ptb_dist/base/error.hpp"

namespace ptb {

// An Error that every rank throws alike: all leave by themselves with its code, root alone prints
// it. Any other Error may be one rank's own, and its job ends by Session::abort.
class AgreedError : public Error {
 public:
  using Error::Error;
};

// In which order a sum over ranks adds.
enum class SumOrder {
  fastest,
  // Along one binary tree: ranks 0 + 1, 2 + 3, ..., then the neighbouring pairs, and so on
  // (src/comm/sums/exchanges.cpp). If each rank brings the sum of a subtree, the bits of the whole
  // are the same on 1, 2, 4, ... ranks. On other numbers of ranks it is as `fastest`.
  tree,
};

// What a rank has sent. All are of one build, so another outcome is a defect (70).
template <class T>
T value_of_rank(std::string_view bytes) {
  std::optional<T> value = from_bytes<T>(bytes);
  require(value.has_value(), "a rank's bytes are the value that it sent");
  return std::move(*value);
}

class HostSum;  // src/comm/sums/host_sums.hpp

class Session {
 public:
  // Initialises MPI (MPI_THREAD_MULTIPLE). Error 2 if this is one process although the launcher's
  // variables say that there should be more: N independent runs would all write one run directory.
  Session(int* argc, char*** argv);
  // Waits for the other ranks and finalises MPI. While an exception unwinds it aborts with 70
  // instead, since the others would wait for this rank: catch errors inside the session's scope.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool is_root() const { return rank_ == 0; }
  int host_rank() const { return host_rank_; }  // among the ranks of this host
  int host_size() const { return host_size_; }
  const std::string& host() const { return host_; }
  // "MPI library version" in one line.
  static std::string library_version();

  // How long a collective may take before this rank gives up, in time that this rank runs.
  using Seconds = std::chrono::duration<double>;
  void set_timeout(Seconds timeout) { timeout_ = timeout; }
  Seconds timeout() const { return timeout_; }

  // Root's value to every rank: of any type that base/archive.hpp carries, or a span of bytes,
  // which must have root's size everywhere.
  template <class T>
  void broadcast(T& value);
  void broadcast(std::span<std::byte> bytes);
  // Everyone's value, by rank, on root; empty elsewhere.
  template <class T>
  std::vector<T> gather(const T& mine);
  // Fixed-size all-gather of up to kIdentityBytes without NUL: rank r's text at [r]. Compares what
  // must be equal before any collective whose size depends on data.
  static constexpr std::size_t kIdentityBytes = 256;
  std::vector<std::string> exchange_identity(const std::string& identity);
  // All-gather among the ranks of this host: host rank r's value at [r]. Of a type that may be
  // copied as bytes.
  template <class T>
  std::vector<T> exchange_on_host(const T& mine);

  // Runs `work`, which calls no collective, on root alone. If it throws there, every rank throws
  // AgreedError: an Error with its own code and lines, no memory as 69, anything else as 70.
  void on_root(const std::function<void()>& work);
  // The same on every rank: if it throws on any, all throw what it threw on the lowest of them,
  // with that rank's number and host unless it threw everywhere.
  void on_every_rank(const std::function<void()>& work);

  // Sum over ranks, in place, of a tensor in host memory: f32 or f64. The same bits on every rank,
  // in an order of additions fixed by `order`, size() and the number of elements. Begin only
  // enqueues; the memory is MPI's until wait returns, and lives at least as long. All ranks begin
  // in the same order; each may wait in its own. Null is a sum that is over.
  using Request = std::shared_ptr<HostSum>;
  Request begin_all_reduce(const Tensor& tensor, SumOrder order = SumOrder::fastest);
  // `what` stands in the message of a missed deadline (70).
  void wait(const Request& request, const std::string& what);

  // Polls, and keeps sums in flight moving, until `is_over` is true; it may throw. Error 70 with
  // `what` it was waiting for when the deadline passes.
  void wait_until(const std::function<bool()>& is_over, const std::string& what);

  // Ends every rank of the job with `code`, without agreement. Does not return.
  [[noreturn]] void abort(ExitCode code);

 private:
  struct Mpi;

  std::vector<std::string> gather_texts(const std::string& text);
  // Each rank of the host gives as many bytes: host rank r's at [r·bytes.size()].
  void gather_on_host(std::span<const std::byte> bytes, std::span<std::byte> all);
  Error missed_deadline(const std::string& what);

  std::unique_ptr<Mpi> mpi_;
  int rank_;
  int size_;
  int host_rank_;
  int host_size_;
  std::string host_;
  Seconds timeout_{300};
};

// Long texts and arrays travel from where they lie to where they will, without a copy.
template <class T>
void Session::broadcast(T& value) {
  if constexpr (Plain<T>) {
    broadcast(std::as_writable_bytes(std::span(&value, 1)));
  } else if constexpr (IsPlainArray<T>) {
    std::uint64_t count = value.size();
    broadcast(count);
    value.resize(count);
    broadcast(std::as_writable_bytes(std::span(value)));
  } else {
    std::string bytes;
    if (is_root()) bytes = to_bytes(value);
    broadcast(bytes);
    if (!is_root()) value = value_of_rank<T>(bytes);
  }
}

template <class T>
std::vector<T> Session::gather(const T& mine) {
  std::vector<std::string> all = gather_texts(to_bytes(mine));
  std::vector<T> values;
  for (const std::string& bytes : all) values.push_back(value_of_rank<T>(bytes));
  return values;
}

template <class T>
std::vector<T> Session::exchange_on_host(const T& mine) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<T> all(static_cast<std::size_t>(host_size_));
  gather_on_host(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  return all;
}

// AgreedError with `code` unless every rank gives the same text (as in exchange_identity): it names
// the ranks that differ from the majority, and both texts. `what` says what the text is ("build").
void require_same(Session& session, const std::string& what, const std::string& mine,
                  ExitCode code = ExitCode::usage);

}  // namespace ptb
