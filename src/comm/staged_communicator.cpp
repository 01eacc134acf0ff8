// A part goes to page-locked memory as soon as the device has computed it, is summed there by MPI,
// and comes back. Copies of one part, the sum of another and the rest of the backward pass overlap:
// only wait() waits, and the backend behind it waits for the copy back by an event.
//
// Ranks begin sums in the order in which they were asked for, whatever copy is over first.
#include "comm/staged_communicator.hpp"

#include <fmt/format.h>

#include <deque>
#include <list>

namespace ptb {
namespace {

// Page-locked memory, which is dear to allocate and therefore used again.
struct Buffer {
  std::shared_ptr<std::byte> memory;
  std::size_t bytes = 0;
  bool is_taken = false;
  Event put{};  // its latest sum's copy back
};

// Behind a Reduction.
struct StagedSum {
  Tensor part;
  std::string what;
  Buffer* buffer = nullptr;
  Event fetched{};
  bool has_begun = false;
  Session::Request request{};
};

class StagedCommunicator : public Communicator {
 public:
  StagedCommunicator(Session& session, Backend& backend, SumOrder order)
      : Communicator(session, backend), order_(order), copies_(*backend.host_copies()) {}

  std::string name() const override { return "mpi, staged through host memory"; }

  Reduction all_reduce(const Tensor& part, const Event& ready, const std::string& what) override {
    if (part.empty()) return {};
    Buffer& buffer = take_buffer(part.bytes());
    auto sum = std::make_shared<StagedSum>(
        StagedSum{.part = part,
                  .what = what,
                  .buffer = &buffer,
                  .fetched = copies_.fetch(part, buffer.memory.get(), ready)});
    to_begin_.push_back(sum);
    begin_what_is_fetched();
    return {sum};
  }

  void wait(const Reduction& reduction) override {
    if (reduction.state == nullptr) return;
    StagedSum& sum = *static_cast<StagedSum*>(reduction.state.get());
    session_.wait_until(
        [&] {
          begin_what_is_fetched();
          return sum.has_begun;
        },
        fmt::format("the GPU's {}", sum.what));
    session_.wait(sum.request, fmt::format("the sum over ranks of {}", sum.what));
    sum.buffer->put = copies_.put(sum.buffer->memory.get(), sum.part);
    sum.buffer->is_taken = false;
    backend_.wait(sum.buffer->put);
  }

 private:
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
    while (!to_begin_.empty() && backend_.done(to_begin_.front()->fetched)) {
      StagedSum& sum = *to_begin_.front();
      sum.request = session_.begin_all_reduce(sum.buffer->memory.get(), sum.part.elements(),
                                              sum.part.type(), order_);
      sum.has_begun = true;
      to_begin_.pop_front();
    }
  }

  SumOrder order_;
  HostCopies& copies_;
  std::list<Buffer> buffers_;  // addresses stay
  std::deque<std::shared_ptr<StagedSum>> to_begin_;
};

}  // namespace

std::unique_ptr<Communicator> make_staged_communicator(Session& session, Backend& backend,
                                                       SumOrder order) {
  return std::make_unique<StagedCommunicator>(session, backend, order);
}

}  // namespace ptb
