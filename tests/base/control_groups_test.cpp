// Limits of control groups: the smallest of a group and those above it, in both versions.
#include "ptb_dist/base/control_groups.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "io/scratch.hpp"

using namespace ptb;
using namespace ptb::test;

BOOST_AUTO_TEST_SUITE(control_groups)

void put_deep(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  put(path, text);
}

BOOST_AUTO_TEST_CASE(version_2_takes_the_smallest_on_the_way_up) {
  const Scratch root;
  const std::string groups = "0::/job/step\n";
  BOOST_TEST(std::isinf(cpu_quota(groups, root.path())));
  put_deep(root / "job/step/cpu.max", "max 100000\n");
  BOOST_TEST(std::isinf(cpu_quota(groups, root.path())));
  put_deep(root / "job/cpu.max", "350000 100000\n");
  BOOST_TEST(cpu_quota(groups, root.path()) == 3.5);
  put_deep(root / "cpu.max", "50000 25000\n");
  BOOST_TEST(cpu_quota(groups, root.path()) == 2.0);
  BOOST_TEST(cpu_quota("0::/\n", root.path()) == 2.0);
}

BOOST_AUTO_TEST_CASE(version_1_has_a_file_system_for_the_cpu) {
  const Scratch root;
  const std::string groups = "5:memory:/job\n4:cpu,cpuacct:/job\n1:cpuset:/\n0::/\n";
  put_deep(root / "cpu/cpu.cfs_quota_us", "-1\n");
  put_deep(root / "cpu/cpu.cfs_period_us", "100000\n");
  BOOST_TEST(std::isinf(cpu_quota(groups, root.path())));
  put_deep(root / "cpu/job/cpu.cfs_quota_us", "150000\n");
  put_deep(root / "cpu/job/cpu.cfs_period_us", "100000\n");
  BOOST_TEST(cpu_quota(groups, root.path()) == 1.5);
  BOOST_TEST(std::isinf(cpu_quota("4:cpuset:/job\n", root.path())));
}

BOOST_AUTO_TEST_CASE(threads_are_limited_by_groups_too) {
  const Scratch root;
  BOOST_TEST(std::isinf(thread_limit("0::/job\n", root.path())));
  put_deep(root / "job/pids.max", "max\n");
  BOOST_TEST(std::isinf(thread_limit("0::/job\n", root.path())));
  put_deep(root / "pids.max", "70\n");
  BOOST_TEST(thread_limit("0::/job\n", root.path()) == 70);
  put_deep(root / "pids/job/pids.max", "50\n");
  BOOST_TEST(thread_limit("8:pids:/job\n", root.path()) == 50);
}

BOOST_AUTO_TEST_CASE(a_container_may_not_see_its_path_of_the_host) {
  const Scratch root;
  put(root / "cpu.max", "200000 100000\n");
  BOOST_TEST(cpu_quota("0::/docker/0123\n", root.path()) == 2.0);
}

BOOST_AUTO_TEST_CASE(what_is_not_understood_limits_nothing) {
  const Scratch root;
  put(root / "cpu.max", "some words\n");
  for (const char* groups : {"", "\n", "0", "0:", "0::", "nonsense\n"}) {
    BOOST_TEST(std::isinf(cpu_quota(groups, root.path())), groups);
  }
}

BOOST_AUTO_TEST_SUITE_END()
