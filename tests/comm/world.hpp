// The one Session of this test program, which runs under mpirun with any number of ranks.
#pragma once

#include "ptb_dist/comm/session.hpp"

namespace ptb::test {

// Lives from before the first test to after the last (all_reduce_test.cpp).
Session& session();

}  // namespace ptb::test
