#include "backend/cpu/team.hpp"

#include <fmt/format.h>
#include <omp.h>

#include "ptb_dist/base/error.hpp"

namespace ptb {

void require_team(int threads) {
  int given = 1;
#pragma omp parallel num_threads(threads)
  {
#pragma omp single
    given = omp_get_num_threads();
  }
  if (given != threads) refuse_team(given, threads);
}

void refuse_team(int given, int asked) {
  throw Error(ExitCode::missing,
              {.what = "too few threads",
               .where = fmt::format("--threads {}", asked),
               .why = fmt::format("the OpenMP library of this process gives {}", given),
               .remedy = fmt::format("leave its limits unset and do not preload another OpenMP "
                                     "library, or use --threads {}",
                                     given)});
}

}  // namespace ptb
