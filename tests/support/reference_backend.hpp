// The naive reference: every operation of the Backend interface in double, as plain loops over the
// indices of its formula. Finite differences check it, and every fast backend is checked against
// it.
//
// Deterministic, one thread, real_type() f64. It keeps no copies of weights and enqueues nothing:
// an operation is over when its call returns.
#pragma once

#include <memory>

#include "ptb_dist/backend/backend.hpp"

namespace ptb {

std::unique_ptr<Backend> make_reference_backend();

}  // namespace ptb
