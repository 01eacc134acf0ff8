#include "ptb_dist/comm/communicator.hpp"

#include <fmt/format.h>

#include "comm/mpi_communicator.hpp"
#include "comm/staged_communicator.hpp"

namespace ptb {
namespace {

// One rank has the sum already.
class SingleCommunicator : public Communicator {
 public:
  using Communicator::Communicator;

  std::string name() const override { return "single"; }
  Reduction all_reduce(const Tensor&, const Event&, const std::string&) override { return {}; }
  void wait(const Reduction&) override {}
};

std::unique_ptr<Communicator> make_single(Session& session, Backend& backend) {
  if (session.size() > 1) {
    throw Error(ExitCode::usage, {.what = "--comm single is for one rank",
                                  .why = fmt::format("there are {}", session.size()),
                                  .remedy = "use --comm auto"});
  }
  return std::make_unique<SingleCommunicator>(session, backend);
}

std::unique_ptr<Communicator> make_mpi(Session& session, Backend& backend, SumOrder order) {
  if (backend.has_host_memory()) return make_mpi_communicator(session, backend, order);
  require(backend.host_copies() != nullptr, "what is not in host memory can be copied there");
  return make_staged_communicator(session, backend, order);
}

}  // namespace

void Communicator::await(const Event& event, const std::string& what) {
  session_.wait_until(
      [&] {
        check_peers();
        return backend_.done(event);
      },
      what);
}

std::unique_ptr<Communicator> make_communicator(const std::string& name, Session& session,
                                                Backend& backend, SumOrder order) {
  if (name == "auto") {
    return session.size() == 1 ? make_single(session, backend) : make_mpi(session, backend, order);
  }
  if (name == "single") return make_single(session, backend);
  if (name == "mpi") return make_mpi(session, backend, order);
  if (name == "nccl") {
    throw Error(ExitCode::missing, {.what = "--comm nccl is not part of this build",
                                    .why = "the gradients of GPUs are summed in host memory",
                                    .remedy = "use --comm mpi"});
  }
  throw Error(ExitCode::usage, {.what = "unknown communicator",
                                .where = fmt::format("--comm {}", name),
                                .remedy = "use auto, mpi, nccl or single"});
}

}  // namespace ptb
