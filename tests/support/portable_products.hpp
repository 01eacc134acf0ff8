// bf16 without the instructions for it: what a processor that has none shows of --precision bf16,
// so that the promises of that precision are tested on each. Never part of the program.
#pragma once

#include <memory>

#include "ptb_dist/backend/backend.hpp"

namespace ptb::test {

// As ptb::make_backend, but for the CPU's bf16, whose products are plain loops: operands rounded to
// bf16, f32 sums in the order of the inner extent. The same bits on every machine and with any
// number of threads. Operands and copies of weights that are not the rounded values of what they
// stand for end the program with 70.
std::unique_ptr<Backend> make_portable_backend(const BackendOptions& options);

}  // namespace ptb::test
