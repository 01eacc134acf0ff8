// Who reads standard output.
#pragma once

#include <cstddef>

namespace ptb {

// Whether a person sits before it: at a terminal of this process, or at that of the mpirun which
// started it on this host. False where that cannot be seen.
bool is_at_a_terminal();
// Characters in a line of it; 80 where nobody says.
std::size_t columns_of_output();

}  // namespace ptb
