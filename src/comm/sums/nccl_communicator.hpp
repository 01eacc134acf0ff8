// The factory of NCCL's communicator, and all that the rest of the program may know of NCCL,
// whether it is built or not.
#pragma once

#include <memory>
#include <string>

#include "ptb_dist/comm/communicator.hpp"

namespace ptb {

// "2.28.9", of the library that is loaded; empty where NCCL is not part of this build.
std::string nccl_version();

// Sums over ranks by NCCL, of tensors in the memory of a CUDA device that no other rank has.
// Collective. Error 70 if it does not begin within the session's deadline.
std::unique_ptr<Communicator> make_nccl_communicator(Session& session, Backend& backend,
                                                     SumOrder order);

}  // namespace ptb
