// The sum over ranks of the finished parts of the gradient.
#pragma once

#include <memory>
#include <string>

#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/comm/session.hpp"

namespace ptb {

// A sum over ranks under way, of the communicator that began it, which outlives it.
class SumInFlight {
 public:
  virtual ~SumInFlight() = default;
  // As Communicator::wait.
  virtual void wait() = 0;
};
// Null: a sum that is over.
using Reduction = std::shared_ptr<SumInFlight>;

class Communicator {
 public:
  // Of `backend`'s tensors; both outlive it.
  Communicator(Session& session, Backend& backend) : session_(session), backend_(backend) {}
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  // "mpi", "single", ... for the log; with the version of a library whose order of additions it is.
  virtual std::string name() const = 0;

  // Enqueues the sum over ranks of `part`, in place, to begin when `ready` has happened; the same
  // bits on every rank, in an order of additions fixed by the number of ranks and of elements, or
  // along the tree of SumOrder::tree. All ranks call it with the same sizes in the same order; 0
  // elements are fine. The part must not be touched until wait() is called on what is returned.
  // `what` names it if a deadline is missed.
  virtual Reduction all_reduce(const Tensor& part, const Event& ready, const std::string& what) = 0;

  // Makes later work of the backend wait for the sum. Error 70 when the session's deadline passes.
  static void wait(const Reduction& reduction) {
    if (reduction != nullptr) reduction->wait();
  }

  // Makes the host wait until `event` has happened, which may depend on sums and so on other ranks.
  // Error 70 naming `what` when the session's deadline passes, or at once when a peer is known to
  // have failed.
  virtual void await(const Event& event, const std::string& what);

 protected:
  Session& session_;
  Backend& backend_;
};

// `name`: auto (single for one rank, else nccl between GPUs where it is built, else mpi), mpi, nccl
// or single. Between GPUs, unless it is mpi, each rank has one of its own (require_own_devices).
// Collective. AgreedError 69 if it is not part of this build, not the same on all ranks, or not for
// this backend; 2 for `single` with several ranks. Error 70 if NCCL does not begin within the
// session's deadline.
std::unique_ptr<Communicator> make_communicator(const std::string& name, Session& session,
                                                Backend& backend,
                                                SumOrder order = SumOrder::fastest);

}  // namespace ptb
