// The tiles of AMX in plain arrays: what src/backend/cpu/tiles.hpp does, on every processor.
#pragma once

#include "backend/cpu/tiles.hpp"

namespace ptb::test {

// tiles::multiply with the same results as AMX, bit for bit, where no number is denormal: its order
// of sums, and products of bf16 are exact in f32. Tiles whose shapes do not fit end the program.
void multiply_in_plain_tiles(const tiles::Part& part);

}  // namespace ptb::test
