// Products of bf16 in the processor's tiles (AMX).
#pragma once

#include "backend/cpu/tiles.hpp"

namespace ptb::amx {

// Whether the processor has AMX for bf16 and the system lets this process use it, which is asked
// for once.
bool is_there();

// tiles::multiply in them. Only if they are there.
void multiply(const tiles::Part& part);

}  // namespace ptb::amx
