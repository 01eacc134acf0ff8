#include "ptb_dist/base/control_groups.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>

namespace ptb {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRoot = "/sys/fs/cgroup";
constexpr double kNoLimit = std::numeric_limits<double>::infinity();

double quota_over_period(double quota, double period) {
  return quota > 0 && period > 0 ? quota / period : kNoLimit;
}

// The quota of one control group: "max 100000" or "250000 100000".
double quota_of_version_2(const fs::path& group) {
  double quota = 0, period = 0;
  std::ifstream(group / "cpu.max") >> quota >> period;
  return quota_over_period(quota, period);
}

// -1: no limit.
double quota_of_version_1(const fs::path& group) {
  double quota = 0, period = 0;
  std::ifstream(group / "cpu.cfs_quota_us") >> quota;
  std::ifstream(group / "cpu.cfs_period_us") >> period;
  return quota_over_period(quota, period);
}

// In both versions: "max" or a number.
double threads_of_group(const fs::path& group) {
  double threads = 0;
  std::ifstream(group / "pids.max") >> threads;
  return threads > 0 ? threads : kNoLimit;
}

// The groups above a group limit it as well. Inside a container the path may be that of the host;
// then only the groups at the end of the walk can be read.
template <class LimitOf>
double smallest_limit(const fs::path& root, fs::path group, LimitOf limit_of) {
  double smallest = limit_of(root);
  for (group = group.relative_path(); !group.empty(); group = group.parent_path()) {
    smallest = std::min(smallest, limit_of(root / group));
  }
  return smallest;
}

// For the groups of a process that have this controller.
template <class LimitOf2, class LimitOf1>
double smallest_limit(const std::string& groups, const fs::path& root,
                      const std::string& controller, LimitOf2 of_version_2, LimitOf1 of_version_1) {
  double smallest = kNoLimit;
  std::istringstream lines(groups);
  // "0::/path" is version 2, "4:cpu,cpuacct:/path" version 1.
  for (std::string line; std::getline(lines, line);) {
    const std::size_t controllers = line.find(':') + 1;
    const std::size_t path = line.find(':', controllers) + 1;
    if (controllers == 0 || path == 0) continue;
    const std::string list = fmt::format(",{},", line.substr(controllers, path - 1 - controllers));
    double limit = kNoLimit;
    if (list == ",,") {
      limit = smallest_limit(root, line.substr(path), of_version_2);
    } else if (list.find(fmt::format(",{},", controller)) != std::string::npos) {
      limit = smallest_limit(root / controller, line.substr(path), of_version_1);
    }
    smallest = std::min(smallest, limit);
  }
  return smallest;
}

std::string groups_of_process() {
  std::ifstream file("/proc/self/cgroup");
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

double cpu_quota(const std::string& groups, const fs::path& root) {
  return smallest_limit(groups, root, "cpu", quota_of_version_2, quota_of_version_1);
}

double thread_limit(const std::string& groups, const fs::path& root) {
  return smallest_limit(groups, root, "pids", threads_of_group, threads_of_group);
}

double cpu_quota() { return cpu_quota(groups_of_process(), kRoot); }
double thread_limit() { return thread_limit(groups_of_process(), kRoot); }

}  // namespace ptb
