#include "comm/mpi_communicator.hpp"

#include <fmt/format.h>

namespace ptb {
namespace {

// Behind an Event: a sum, and a view that keeps its memory alive.
struct TensorSum {
  Session::Request request;
  Tensor part;
};

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(Session& session, Backend& backend) : session_(session), backend_(backend) {}

  std::string name() const override { return "mpi"; }

  Event all_reduce(const Tensor& part, const Event& ready) override {
    // In host memory work is over when the backend's wait returns.
    if (ready != nullptr) backend_.wait(ready);
    return std::make_shared<TensorSum>(
        session_.begin_all_reduce(part.raw(), part.elements(), part.type()), part);
  }

  void wait(const Event& done) override {
    if (done == nullptr) return;
    const auto& sum = *static_cast<const TensorSum*>(done.get());
    session_.wait(sum.request,
                  fmt::format("a sum over ranks of {} gradients", sum.part.elements()));
  }

 private:
  Session& session_;
  Backend& backend_;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(Session& session, Backend& backend) {
  return std::make_unique<MpiCommunicator>(session, backend);
}

}  // namespace ptb
