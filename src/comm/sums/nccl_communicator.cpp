// Sums over ranks by NCCL, on a stream beside the backend's: a part leaves as soon as the device
// has computed it, the rest of the backward pass goes on meanwhile, and only the backend's later
// work waits, by an event.
//
// NCCL is never allowed to make the host wait: its calls return at once and are polled, with the
// session's deadline. Whatever goes wrong ends in ncclCommAbort, without which kernels that wait
// for a lost rank would hold every later call of CUDA; if even that hangs, the process is ended.
#include "comm/sums/nccl_communicator.hpp"

#include <fmt/format.h>
#include <nccl.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "backend/cuda/native.hpp"
#include "comm/sums/exchanges.hpp"
#include "ptb_dist/base/awake_clock.hpp"
#include "ptb_dist/base/console.hpp"

namespace ptb {
namespace {

// Sums up to this size leave together with the next larger one: a window's loss with the softmax's
// part. NCCL's launch costs about as much as sending so many bytes.
constexpr std::size_t kSmallBytes = std::size_t{32} << 10;
constexpr auto kAbortGrace = std::chrono::seconds(3);
// Whoever failed first, or its launcher, knows why and ends all ranks; what the others see of it, a
// broken connection, is told only if nobody does.
constexpr auto kTheirGrace = std::chrono::seconds(2);

ncclDataType_t type_of(const Tensor& part) {
  require(part.type() == ElementType::f32 || part.type() == ElementType::f64,
          "sums are of f32 or f64");
  return part.type() == ElementType::f32 ? ncclFloat32 : ncclFloat64;
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(Session& session, Backend& backend, SumOrder order)
      : Communicator(session, backend), is_tree_(is_along_tree(order, session.size())) {
    start();
  }
  ~NcclCommunicator() override {
    if (comm_ == nullptr) return;
    if (std::uncaught_exceptions() > 0) {
      abort("an error ends the run");
      return;
    }
    try {
      finish();
    } catch (const Error& error) {
      print(error.lines().front());
      session_.abort(error.code());
    }
  }

  std::string name() const override {
    std::string name = "nccl " + nccl_version();
    for (const char* choice : {"NCCL_ALGO", "NCCL_PROTO"}) {  // of an order of additions
      if (const char* value = std::getenv(choice)) name += fmt::format(", {}={}", choice, value);
    }
    return name;
  }

  Reduction all_reduce(const Tensor& part, const Event& ready, const std::string& what) override {
    if (part.empty()) return nullptr;
    const auto sum = std::make_shared<Sum>(*this, part, ready, what);
    gathered_.push_back(sum);
    if (part.bytes() > kSmallBytes) leave();
    return sum;
  }

  void await(const Event& event, const std::string& what) override {
    poll([&] { return backend_.done(event); }, what);
  }

 private:
  struct Sum final : SumInFlight {
    Sum(NcclCommunicator& communicator, Tensor tensor, Event event, std::string name)
        : owner(communicator),
          part(std::move(tensor)),
          ready(std::move(event)),
          what(std::move(name)) {}
    void wait() override {
      if (over == nullptr) owner.leave();
      owner.backend_.wait(over);
    }

    NcclCommunicator& owner;
    Tensor part;
    Event ready;
    std::string what;
    Event over{};  // null until it has left
  };

  // --- the communicator's life -----------------------------------------------------------------

  void start() {
    ncclUniqueId id{};
    session_.on_root([&] { check(ncclGetUniqueId(&id), "an id for all ranks"); });
    session_.broadcast(std::as_writable_bytes(std::span(&id, 1)));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    settle(ncclCommInitRankConfig(&comm_, session_.size(), id, session_.rank(), &config),
           "NCCL to start on every rank");
  }

  // Of a run that all ranks end alike: nothing is in flight that would not come to its end.
  void finish() {
    settle(ncclCommFinalize(comm_), "NCCL to end on every rank");
    check(ncclCommDestroy(std::exchange(comm_, nullptr)), "NCCL's end");
  }

  // Ends all sums in flight, here and, for lack of an answer, on the other ranks. If that does not
  // end, all ranks are ended: `why` is then the last that is heard of this one.
  void abort(const std::string& why) noexcept {
    if (comm_ == nullptr) return;
    const std::jthread watchdog([&](const std::stop_token& is_over) {
      std::mutex mutex;
      std::condition_variable_any over;
      std::unique_lock lock(mutex);
      if (wait_awake(kAbortGrace, [&](AwakeClock::duration left) {
            over.wait_for(lock, is_over, left, [] { return false; });
            return is_over.stop_requested();
          })) {
        return;
      }
      print(fmt::format("{}; and ncclCommAbort hangs", why));
      session_.abort(ExitCode::internal);
    });
    ncclCommAbort(std::exchange(comm_, nullptr));
  }

  void print(const std::string& line) const noexcept {
    console::write(console::Stream::error, fmt::format("ptb_dist: error: rank {} ({}): {}\n",
                                                       session_.rank(), session_.host(), line));
  }

  // --- calls of NCCL ---------------------------------------------------------------------------

  // `what` was asked for. Aborts, and throws Error 70.
  [[noreturn]] void fail(ncclResult_t status, const std::string& what) {
    const Error error(
        ExitCode::internal,
        {.what = "NCCL failed",
         .where = what,
         .why = fmt::format("{}, {}", ncclGetErrorString(status), ncclGetLastError(comm_)),
         .remedy = "a rank, its GPU or its network was lost; NCCL_DEBUG=WARN tells more"});
    abort(error.lines().front());
    if (status == ncclRemoteError) sleep_awake(kTheirGrace);
    throw error;
  }

  void check(ncclResult_t status, const std::string& what) {
    if (status != ncclSuccess && status != ncclInProgress) fail(status, what);
  }

  // Until the call that gave `status` has put its work on the stream: only then may more follow.
  void settle(ncclResult_t status, const std::string& what) {
    check(status, what);
    if (status == ncclSuccess) return;
    poll([&] { return state(what) == ncclSuccess; }, what);
  }

  // Of all that was asked for so far; ncclSuccess or ncclInProgress.
  ncclResult_t state(const std::string& what) {
    ncclResult_t status = ncclSuccess;
    check(ncclCommGetAsyncError(comm_, &status), what);
    check(status, what);
    return status;
  }

  // The session's wait, with an eye on NCCL, and without sums in flight when it throws.
  void poll(const std::function<bool()>& is_over, const std::string& what) {
    try {
      session_.wait_until(
          [&] {
            state(what);
            forget_what_is_over();
            return is_over();
          },
          what);
    } catch (const Error& error) {
      if (comm_ == nullptr) throw;  // NCCL told of it
      std::string line = error.lines().front();
      if (!in_flight_.empty()) {
        line = fmt::format("the sum over ranks of {} does not end: {}", in_flight_.front()->what,
                           line);
      }
      abort(line);
      throw Error(error.code(), Complaint{.what = line});
    }
  }

  // --- sums ------------------------------------------------------------------------------------

  // Of what was gathered, in the order in which it was given.
  void leave() {
    for (const auto& sum : gathered_) stream_.wait(sum->ready);
    if (is_tree_) {
      for (const auto& sum : gathered_) add_along_tree(*sum);
    } else {
      check(ncclGroupStart(), gathered_.back()->what);
      for (const auto& sum : gathered_) {
        const Tensor& part = sum->part;
        check(ncclAllReduce(part.raw(), part.raw(), static_cast<std::size_t>(part.elements()),
                            type_of(part), ncclSum, comm_, stream_.get()),
              sum->what);
      }
      settle(ncclGroupEnd(), "the sum over ranks of " + gathered_.back()->what);
    }
    const Event over = stream_.record();
    for (const auto& sum : gathered_) {
      sum->over = over;
      in_flight_.push_back(sum);
    }
    gathered_.clear();
    forget_what_is_over();
  }

  // As MPI does it (exchanges.cpp), with the same additions.
  void add_along_tree(const Sum& sum) {
    const Tensor& part = sum.part;
    const std::vector<Exchange> exchanges = tree_exchanges(
        session_.rank(), session_.size(), part.elements(), part.bytes() >= kCutBytes);
    const std::size_t width = size_of(part.type());
    std::byte* const addend = scratch(static_cast<std::size_t>(longest_addend(exchanges)) * width);
    const auto at = [&](Run run) {
      return static_cast<std::byte*>(part.raw()) + static_cast<std::size_t>(run.first) * width;
    };
    for (const Exchange& exchange : exchanges) {
      const std::string what = fmt::format("the sum of {} with rank {}", sum.what, exchange.from);
      check(ncclGroupStart(), what);
      check(ncclSend(at(exchange.out), static_cast<std::size_t>(exchange.out.count), type_of(part),
                     exchange.to, comm_, stream_.get()),
            what);
      check(ncclRecv(exchange.is_added ? addend : at(exchange.in),
                     static_cast<std::size_t>(exchange.in.count), type_of(part), exchange.from,
                     comm_, stream_.get()),
            what);
      settle(ncclGroupEnd(), what);
      if (exchange.is_added) {
        stream_.add(at(exchange.in), addend, exchange.in.count, part.type());
      }
    }
  }

  // One sum after the other uses it. Outgrown memory stays: to free it the host would have to wait.
  std::byte* scratch(std::size_t bytes) {
    if (scratch_.empty() || scratch_.back().second < bytes) {
      scratch_.emplace_back(cuda::allocate_device(bytes, "the sum over ranks"), bytes);
    }
    return scratch_.back().first.get();
  }

  void forget_what_is_over() {
    while (!in_flight_.empty() && backend_.done(in_flight_.front()->over)) in_flight_.pop_front();
  }

  bool is_tree_;
  cuda::SideStream stream_;
  ncclComm_t comm_ = nullptr;                   // null before start, behind abort and finish
  std::vector<std::shared_ptr<Sum>> gathered_;  // to leave together
  std::deque<std::shared_ptr<Sum>> in_flight_;  // in order; their memory must live
  std::vector<std::pair<std::shared_ptr<std::byte>, std::size_t>> scratch_;  // the last is in use
};

}  // namespace

std::string nccl_version() {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess) return "unknown";
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

std::unique_ptr<Communicator> make_nccl_communicator(Session& session, Backend& backend,
                                                     SumOrder order) {
  return std::make_unique<NcclCommunicator>(session, backend, order);
}

}  // namespace ptb
