#pragma once

#include "ptb_dist/comm/communicator.hpp"

namespace ptb {

// Sums over ranks by MPI in host memory, of tensors that are in a device's.
std::unique_ptr<Communicator> make_staged_communicator(Session& session, Backend& backend,
                                                       SumOrder order);

}  // namespace ptb
