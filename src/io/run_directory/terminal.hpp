// Who reads standard output.
#pragma once

#include <cstddef>

namespace ptb {

// Whether a person reads it: at a terminal of this process, or of the mpirun that started it on
// this host. False if that cannot be found out.
bool is_at_a_terminal();
// Characters in a line of the terminal; 80 if unknown.
std::size_t columns_of_output();

}  // namespace ptb
