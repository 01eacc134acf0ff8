#include "ptb_dist/comm/communicator.hpp"

#include <fmt/format.h>

#include "comm/sums/mpi_communicator.hpp"
#include "comm/sums/nccl_communicator.hpp"
#include "comm/sums/staged_communicator.hpp"

namespace ptb {
namespace {

// One rank has the sum already.
class SingleCommunicator : public Communicator {
 public:
  using Communicator::Communicator;

  std::string name() const override { return "single"; }
  Reduction all_reduce(const Tensor&, const Event&, const std::string&) override { return nullptr; }
};

std::unique_ptr<Communicator> make_single(Session& session, Backend& backend) {
  if (session.size() > 1) {
    throw AgreedError(ExitCode::usage, {.what = "--comm single is for one rank",
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

AgreedError no_nccl(const std::string& why, const std::string& remedy) {
  return {ExitCode::missing, Complaint{.what = "--comm nccl", .why = why, .remedy = remedy}};
}

// A rank for each GPU, and the same NCCL on all of them.
std::unique_ptr<Communicator> make_nccl(Session& session, Backend& backend, SumOrder order) {
  if (backend.has_host_memory()) {
    throw no_nccl(fmt::format("it sums between GPUs, and the backend is {}", backend.name()),
                  "use --comm mpi, or --backend cuda");
  }
  require_same(session, "NCCL version", nccl_version(), ExitCode::missing);
  if (nccl_version().empty()) {
    throw no_nccl("NCCL is not part of this build",
                  "use --comm mpi, or build with NCCL (PTB_DIST_NCCL=ON, NCCL_ROOT)");
  }
  return make_nccl_communicator(session, backend, order);
}

// Between GPUs a sum in host memory is a way out that is asked for where ranks share one.
std::unique_ptr<Communicator> make_best(Session& session, Backend& backend, SumOrder order) {
  if (session.size() == 1) return make_single(session, backend);
  if (backend.has_host_memory() || nccl_version().empty()) {
    return make_mpi(session, backend, order);
  }
  return make_nccl(session, backend, order);
}

}  // namespace

void Communicator::await(const Event& event, const std::string& what) {
  session_.wait_until([&] { return backend_.done(event); }, what);
}

std::unique_ptr<Communicator> make_communicator(const std::string& name, Session& session,
                                                Backend& backend, SumOrder order) {
  if (name == "auto") return make_best(session, backend, order);
  if (name == "single") return make_single(session, backend);
  if (name == "mpi") return make_mpi(session, backend, order);
  if (name == "nccl") return make_nccl(session, backend, order);
  throw AgreedError(ExitCode::usage, {.what = "unknown communicator",
                                      .where = fmt::format("--comm {}", name),
                                      .remedy = "use auto, mpi, nccl or single"});
}

}  // namespace ptb
