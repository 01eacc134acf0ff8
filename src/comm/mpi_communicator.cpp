#include "comm/mpi_communicator.hpp"

#include <fmt/format.h>

namespace ptb {
namespace {

// Behind a Reduction: a sum, a view that keeps its memory alive, and its name.
struct TensorSum {
  Session::Request request;
  Tensor part;
  std::string what;
};

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(Session& session, Backend& backend, SumOrder order)
      : Communicator(session, backend), order_(order) {}

  std::string name() const override { return "mpi"; }

  Reduction all_reduce(const Tensor& part, const Event& ready, const std::string& what) override {
    // Backends with host memory work in the calling thread, so their events are over.
    require(backend_.done(ready), "a part of the gradient is complete when its sum begins");
    return {std::make_shared<TensorSum>(
        session_.begin_all_reduce(part.raw(), part.elements(), part.type(), order_), part, what)};
  }

  void wait(const Reduction& reduction) override {
    if (reduction.state == nullptr) return;
    const auto& sum = *static_cast<const TensorSum*>(reduction.state.get());
    session_.wait(sum.request, fmt::format("the sum over ranks of {}", sum.what));
  }

 private:
  SumOrder order_;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(Session& session, Backend& backend,
                                                    SumOrder order) {
  return std::make_unique<MpiCommunicator>(session, backend, order);
}

}  // namespace ptb
