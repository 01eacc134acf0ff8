// The one Session of this test program, a single rank.
#pragma once

#include "ptb_dist/comm/session.hpp"

namespace ptb::test {

// Lives from before the first test to after the last (plan_test.cpp).
Session& session();

}  // namespace ptb::test
