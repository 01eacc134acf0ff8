// A part goes to page-locked memory as soon as the device has computed it, is summed there by MPI,
// and comes back. Copies of one part, the sum of another and the rest of the backward pass overlap:
// only wait() waits, and the backend behind it waits for the copy back by an event.
//
// Ranks begin sums in the order in which they were asked for, whatever copy is over first.
#include "comm/sums/staged_communicator.hpp"

#include <fmt/format.h>

#include <deque>
#include <list>
#include <utility>

namespace ptb {
namespace {

// Page-locked memory, which is dear to allocate and therefore used again.
struct Buffer {
  std::shared_ptr<std::byte> memory;
  std::size_t bytes = 0;
  bool is_taken = false;
  Event put{};  // its latest sum's copy back
};

class StagedCommunicator : public Communicator {
 public:
  StagedCommunicator(Session& session, Backend& backend, SumOrder order)
      : Communicator(session, backend), order_(order), copies_(*backend.host_copies()) {}

  std::string name() const override { return "mpi, staged through host memory"; }

  Reduction all_reduce(const Tensor& part, const Event& ready, const std::string& what) override {
    if (part.empty()) return nullptr;
    Buffer& buffer = take_buffer(part.bytes());
    const auto sum = std::make_shared<Sum>(*this, part, what, buffer,
                                           copies_.fetch(part, buffer.memory.get(), ready));
    to_begin_.push_back(sum);
    begin_what_is_fetched();
    return sum;
  }

 private:
  class Sum final : public SumInFlight {
   public:
    Sum(StagedCommunicator& owner, Tensor part, std::string what, Buffer& buffer, Event fetched)
        : owner_(owner),
          part_(std::move(part)),
          what_(std::move(what)),
          buffer_(buffer),
          fetched_(std::move(fetched)) {}

    bool is_fetched() const { return owner_.backend_.done(fetched_); }
    void begin() {
      const Tensor copy(buffer_.memory, part_.type(), {part_.elements()});
      request_ = owner_.session_.begin_all_reduce(copy, owner_.order_);
      has_begun_ = true;
    }
    void wait() override {
      owner_.session_.wait_until(
          [&] {
            owner_.begin_what_is_fetched();
            return has_begun_;
          },
          fmt::format("the GPU's {}", what_));
      owner_.session_.wait(request_, fmt::format("the sum over ranks of {}", what_));
      buffer_.put = owner_.copies_.put(buffer_.memory.get(), part_);
      buffer_.is_taken = false;
      owner_.backend_.wait(buffer_.put);
    }

   private:
    StagedCommunicator& owner_;
    Tensor part_;
    std::string what_;
    Buffer& buffer_;
    Event fetched_;
    bool has_begun_ = false;
    Session::Request request_{};
  };

  // The smallest that is free and large enough.
  Buffer& take_buffer(std::size_t bytes) {
    Buffer* best = nullptr;
    for (Buffer& buffer : buffers_) {
      if (buffer.is_taken || buffer.bytes < bytes || !backend_.done(buffer.put)) continue;
      if (best == nullptr || buffer.bytes < best->bytes) best = &buffer;
    }
    if (best == nullptr) {
      best = &buffers_.emplace_back(Buffer{.memory = copies_.allocate(bytes), .bytes = bytes});
    }
    best->is_taken = true;
    return *best;
  }

  void begin_what_is_fetched() {
    while (!to_begin_.empty() && to_begin_.front()->is_fetched()) {
      to_begin_.front()->begin();
      to_begin_.pop_front();
    }
  }

  SumOrder order_;
  HostCopies& copies_;
  std::list<Buffer> buffers_;  // addresses stay
  std::deque<std::shared_ptr<Sum>> to_begin_;
};

}  // namespace

std::unique_ptr<Communicator> make_staged_communicator(Session& session, Backend& backend,
                                                       SumOrder order) {
  return std::make_unique<StagedCommunicator>(session, backend, order);
}

}  // namespace ptb
