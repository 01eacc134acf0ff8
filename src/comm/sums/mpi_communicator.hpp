// Sums by MPI, of tensors whose memory is the host's.
#pragma once

#include "ptb_dist/comm/communicator.hpp"

namespace ptb {

std::unique_ptr<Communicator> make_mpi_communicator(Session& session, Backend& backend,
                                                    SumOrder order);

}  // namespace ptb
