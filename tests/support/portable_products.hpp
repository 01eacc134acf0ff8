// bf16 without the instructions for it: what a processor that has none shows of --precision bf16,
// so that the promises of that precision are tested on each. Never part of the program.
#pragma once

#include <memory>

#include "ptb_dist/backend/backend.hpp"

namespace ptb::test {

// As ptb::make_backend, but for the CPU's bf16, whose products are those of AMX in plain tiles
// (plain_tiles.hpp): the same bits on every machine and with any number of threads. Copies of
// operands that do not have their rounded values, and weights that are written while their version
// stays, end the program with 70.
std::unique_ptr<Backend> make_portable_backend(const BackendOptions& options);

}  // namespace ptb::test
