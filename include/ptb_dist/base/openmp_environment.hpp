// What the OpenMP runtime sees of the environment.
//
// libgomp reads its variables once, in its constructor, long before main. So they are arranged
// before any constructor has run, by a function that the loader calls first of all
// (.preinit_array): whatever would give a team fewer threads than were asked for, move threads to
// other cores than the process has, or size their stacks is hidden, since --threads and the
// launcher decide that; and where the user said nothing about waiting, threads wait in a loop for a
// bounded time only. A program has this only if it is linked with a call of a function below.
#pragma once

#include <string_view>
#include <vector>

namespace ptb {

// "OMP_THREAD_LIMIT=1", ...: what was hidden, in the environment's order. For as long as the
// process lives.
std::vector<std::string_view> hidden_openmp_settings();

}  // namespace ptb
