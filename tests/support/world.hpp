// The one Session of this test program, which mpirun may start with any number of ranks.
#pragma once

#include "ptb_dist/comm/session.hpp"

namespace ptb::test {

// Lives from before the first test to after the last; made by the program's main file.
Session& session();

}  // namespace ptb::test
