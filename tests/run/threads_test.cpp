// How the cores of a host are shared by its ranks, bound and unbound, with hardware threads and
// quotas.
#include "ptb_dist/run/threads.hpp"

#include <boost/test/unit_test.hpp>

using namespace ptb;

namespace {

int a_core_each(int cpu) { return cpu; }
// CPU n and n + 8 are one core.
int two_of_8(int cpu) { return cpu % 8; }

CpuSet cpus(int first, int last) {
  CpuSet set;
  for (int cpu = first; cpu <= last; ++cpu) set.set(static_cast<std::size_t>(cpu));
  return set;
}

std::vector<int> threads(const HostCpus& host) {
  std::vector<int> result;
  for (int rank = 0; rank < std::ssize(host.allowed); ++rank) {
    result.push_back(threads_of_rank(host, rank));
  }
  return result;
}

void check(const HostCpus& host, const std::vector<int>& expected) {
  const std::vector<int> found = threads(host);
  BOOST_TEST(found == expected, boost::test_tools::per_element());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(threads_of_a_rank)

BOOST_AUTO_TEST_CASE(ranks_that_are_not_bound_share_equally) {
  const CpuSet all = cpus(0, 5);
  check({.allowed = {all}, .core_of = a_core_each}, {6});
  check({.allowed = {all, all, all}, .core_of = a_core_each}, {2, 2, 2});
  check({.allowed = std::vector(4, all), .core_of = a_core_each}, {1, 1, 1, 1});
  check({.allowed = std::vector(9, all), .core_of = a_core_each}, std::vector(9, 1));
}

BOOST_AUTO_TEST_CASE(ranks_that_are_bound_have_their_own) {
  check({.allowed = {cpus(0, 0), cpus(1, 3), cpus(4, 5)}, .core_of = a_core_each}, {1, 3, 2});
  // Two to a socket.
  check({.allowed = {cpus(0, 3), cpus(0, 3), cpus(4, 7), cpus(4, 7)}, .core_of = a_core_each},
        {2, 2, 2, 2});
  // A rank with cores of its own beside those that it shares.
  check({.allowed = {cpus(0, 7), cpus(0, 1)}, .core_of = a_core_each}, {7, 1});
}

BOOST_AUTO_TEST_CASE(a_container_sees_only_its_own) {
  // The host has more, which no mask names; their numbers are anywhere.
  check({.allowed = std::vector(2, cpus(1000, 1003)), .core_of = a_core_each}, {2, 2});
}

BOOST_AUTO_TEST_CASE(hardware_threads_of_a_core_count_once) {
  check({.allowed = std::vector(2, cpus(0, 15)), .core_of = two_of_8}, {4, 4});
  check({.allowed = {cpus(0, 7), cpus(8, 15)}, .core_of = two_of_8}, {4, 4});
  check({.allowed = {cpus(8, 9)}, .core_of = two_of_8}, {2});
}

BOOST_AUTO_TEST_CASE(a_quota_is_for_all_ranks) {
  const CpuSet all = cpus(0, 15);
  check({.allowed = {all}, .core_of = a_core_each, .quota = 2.5}, {2});
  check({.allowed = {all, all}, .core_of = a_core_each, .quota = 6}, {3, 3});
  check({.allowed = {all, all}, .core_of = a_core_each, .quota = 0.5}, {1, 1});
  check({.allowed = {all, cpus(0, 0)}, .core_of = a_core_each, .quota = 100}, {15, 1});
}

BOOST_AUTO_TEST_CASE(ranks_that_crowd_are_told) {
  const auto told = [](const HostCpus& host, const std::vector<int>& of_ranks, const char* words) {
    const std::string line = crowding(host, of_ranks, 8);
    BOOST_TEST(line.find(words) != std::string::npos, line);
  };
  const CpuSet all = cpus(0, 7);
  BOOST_TEST(crowding({.allowed = {all, all}, .core_of = a_core_each}, {4, 4}, 8) == "");
  told({.allowed = {all, all}, .core_of = a_core_each}, {5, 4},
       "2 ranks with 9 threads together share 8 cores");
  told({.allowed = {all, all}, .core_of = a_core_each}, {5, 4}, "fewer ranks");
  told({.allowed = {all}, .core_of = [](int cpu) { return cpu % 4; }}, {8},
       "a rank has 8 threads on 4 cores");
  // Bound: two of three to one core, though there are enough for all.
  told({.allowed = {cpus(0, 0), cpus(0, 0), cpus(1, 7)}, .core_of = a_core_each}, {1, 1, 1},
       "2 ranks with 2 threads together share 1 core:");
  told({.allowed = {cpus(0, 0), cpus(0, 0), cpus(1, 7)}, .core_of = a_core_each}, {1, 1, 1},
       "--bind-to none");
  // One within the other: the second has cores beyond those of the first.
  BOOST_TEST(crowding({.allowed = {cpus(0, 0), cpus(0, 3)}, .core_of = a_core_each}, {1, 3}, 8) ==
             "");
}

BOOST_AUTO_TEST_SUITE_END()
