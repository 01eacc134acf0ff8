#include "comm/sums/mpi_communicator.hpp"

#include <fmt/format.h>

#include <utility>

namespace ptb {
namespace {

class MpiSum final : public SumInFlight {
 public:
  MpiSum(Session& session, Session::Request request, std::string what)
      : session_(session), request_(std::move(request)), what_(std::move(what)) {}

  void wait() override { session_.wait(request_, fmt::format("the sum over ranks of {}", what_)); }

 private:
  Session& session_;
  Session::Request request_;
  std::string what_;
};

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(Session& session, Backend& backend, SumOrder order)
      : Communicator(session, backend), order_(order) {}

  std::string name() const override { return "mpi"; }

  Reduction all_reduce(const Tensor& part, const Event& ready, const std::string& what) override {
    // Backends with host memory work in the calling thread, so their events are over.
    require(backend_.done(ready), "a part of the gradient is complete when its sum begins");
    return std::make_shared<MpiSum>(session_, session_.begin_all_reduce(part, order_), what);
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
