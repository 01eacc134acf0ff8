// What the OpenMP runtime sees of the environment.
//
// libgomp reads its variables once, in its constructor, long before main. So a function that the
// loader calls before all constructors (.preinit_array) changes them first. It hides each variable
// that would give a team fewer threads than asked for, move threads to other cores than the process
// has, or size their stacks: --threads and the launcher decide that. Unless the user says how
// threads wait, they wait in a loop for a bounded time only. A program has all this only if it is
// linked with a call of a function below.
#pragma once

#include <string_view>
#include <vector>

namespace ptb {

// "OMP_THREAD_LIMIT=1", ...: what was hidden, in the environment's order. The views stay valid.
std::vector<std::string_view> hidden_openmp_settings();

}  // namespace ptb
