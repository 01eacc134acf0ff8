// The check of the OpenMP team: a team smaller than asked for is an error, at the start and in
// every loop.
#include "backend/cpu/team.hpp"

#include <omp.h>

#include <boost/test/unit_test.hpp>

#include "backend/cpu/parallel.hpp"
#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/base/error.hpp"

using namespace ptb;

namespace {

// Teams of one thread while it lives, as OMP_MAX_ACTIVE_LEVELS=0 would make them.
class OnlyOneThread {
 public:
  OnlyOneThread() { omp_set_max_active_levels(0); }
  ~OnlyOneThread() { omp_set_max_active_levels(levels_); }

 private:
  int levels_ = omp_get_max_active_levels();
};

bool is_of_threads(const Error& error) {
  return error.code() == ExitCode::missing &&
         error.lines().front().starts_with("too few threads: --threads 2: ");
}

}  // namespace

BOOST_AUTO_TEST_SUITE(team)

BOOST_AUTO_TEST_CASE(a_full_team_does_all_blocks) {
  require_team(2);
  std::vector<int> done(100);
  parallel_for(2, 100, 10, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t k = begin; k < end; ++k) ++done[static_cast<std::size_t>(k)];
  });
  BOOST_TEST(done == std::vector<int>(100, 1), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_smaller_team_is_refused) {
  const OnlyOneThread only_one;
  require_team(1);
  BOOST_CHECK_EXCEPTION(require_team(2), Error, is_of_threads);
  BOOST_CHECK_EXCEPTION(make_backend({.name = "cpu", .threads = 2}), Error, is_of_threads);
  BOOST_CHECK_EXCEPTION(parallel_for(2, 100, 10, [](std::int64_t, std::int64_t) {}), Error,
                        is_of_threads);
}

BOOST_AUTO_TEST_SUITE_END()
