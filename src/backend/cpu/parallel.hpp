// Dealing ranges to the threads of a rank.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

#include "backend/cpu/team.hpp"

namespace ptb {

// Calls work(begin, end) for blocks that cover [0, n), on the OpenMP team. The blocks are multiples
// of `grain` except the last; with no more than `grain` elements the caller does all of it, which
// saves the few microseconds of a barrier. Blocks are fixed by n, grain and the number of threads,
// so results are repeatable; results that must not depend on the threads do not sum across blocks.
template <class Work>
void parallel_for(int threads, std::int64_t n, std::int64_t grain, const Work& work) {
  if (threads == 1 || n <= grain) {
    if (n > 0) work(std::int64_t{0}, n);
    return;
  }
  const std::int64_t grains = (n + grain - 1) / grain;
  int given = 0;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int thread = 0; thread < threads; ++thread) {
    if (thread == 0) given = omp_get_num_threads();
    const std::int64_t begin = grains * thread / threads * grain;
    const std::int64_t end = std::min(grains * (thread + 1) / threads * grain, n);
    if (begin < end) work(begin, end);
  }
  // The blocks are all done then, but oneDNN's would not be.
  if (given != threads) refuse_team(given, threads);
}

}  // namespace ptb
