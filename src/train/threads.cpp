#include "ptb_dist/train/threads.hpp"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <thread>

namespace ptb {
namespace {

namespace fs = std::filesystem;

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

double quota_over_period(double quota, double period) {
  return quota > 0 && period > 0 ? quota / period : kNoLimit;
}

// Of one control group: "max 100000" or "250000 100000".
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

// A group is limited by those that it is in as well. Inside a container its path may be that of the
// host, of which only the end of the walk is there to be read.
template <class QuotaOf>
double smallest_quota(const fs::path& root, fs::path group, QuotaOf quota_of) {
  double smallest = quota_of(root);
  for (group = group.relative_path(); !group.empty(); group = group.parent_path()) {
    smallest = std::min(smallest, quota_of(root / group));
  }
  return smallest;
}

CpuSet affinity_mask() {
  CpuSet cpus;
  std::vector<unsigned char> bits(cpus.size() / 8);
  auto* set = reinterpret_cast<cpu_set_t*>(bits.data());
  if (sched_getaffinity(0, bits.size(), set) != 0) {
    for (unsigned cpu = 0; cpu < std::thread::hardware_concurrency(); ++cpu) cpus.set(cpu);
    return cpus;
  }
  for (std::size_t cpu = 0; cpu < cpus.size(); ++cpu) {
    if (CPU_ISSET_S(cpu, bits.size(), set)) cpus.set(cpu);
  }
  return cpus;
}

// The core's lowest hardware thread: the list is "0,64" or "0-1". Without it each is a core.
int first_sibling(int cpu) {
  int first = cpu;
  std::ifstream list(
      fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
  return list >> first ? first : cpu;
}

std::string text_of(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

int threads_of_rank(const HostCpus& host, int host_rank) {
  std::map<int, std::vector<bool>> users;  // of each core, by host rank
  for (std::size_t rank = 0; rank < host.allowed.size(); ++rank) {
    for (std::size_t cpu = 0; cpu < host.allowed[rank].size(); ++cpu) {
      if (!host.allowed[rank][cpu]) continue;
      std::vector<bool>& ranks = users[host.core_of(static_cast<int>(cpu))];
      ranks.resize(host.allowed.size());
      ranks[rank] = true;
    }
  }
  double share = 0;
  for (const auto& [core, ranks] : users) {
    if (!ranks[static_cast<std::size_t>(host_rank)]) continue;
    share += 1.0 / static_cast<double>(std::count(ranks.begin(), ranks.end(), true));
  }
  share = std::min(share, host.quota / static_cast<double>(host.allowed.size()));
  return std::max(1, static_cast<int>(share + 1e-9));  // three thirds are one
}

double cpu_quota(const std::string& groups, const fs::path& root) {
  double smallest = kNoLimit;
  std::istringstream lines(groups);
  // "0::/path" is version 2, "4:cpu,cpuacct:/path" version 1.
  for (std::string line; std::getline(lines, line);) {
    const std::size_t controllers = line.find(':') + 1;
    const std::size_t path = line.find(':', controllers) + 1;
    if (controllers == 0 || path == 0) continue;
    const std::string list = fmt::format(",{},", line.substr(controllers, path - 1 - controllers));
    double quota = kNoLimit;
    if (list == ",,") {
      quota = smallest_quota(root, line.substr(path), quota_of_version_2);
    } else if (list.find(",cpu,") != std::string::npos) {
      quota = smallest_quota(root / "cpu", line.substr(path), quota_of_version_1);
    }
    smallest = std::min(smallest, quota);
  }
  return smallest;
}

int threads_of_this_rank(Session& session, const Config& config) {
  if (config.threads > 0) return static_cast<int>(config.threads);
  // Sums over threads would depend on how many ranks share the host.
  if (config.lane_groups > 0) return 1;
  const CpuSet mine = affinity_mask();
  const std::vector<std::byte> all = session.exchange_on_host(std::as_bytes(std::span(&mine, 1)));
  HostCpus host{.allowed = std::vector<CpuSet>(static_cast<std::size_t>(session.host_size())),
                .core_of = first_sibling,
                .quota = cpu_quota(text_of("/proc/self/cgroup"), "/sys/fs/cgroup")};
  std::memcpy(host.allowed.data(), all.data(), all.size());
  return threads_of_rank(host, session.host_rank());
}

}  // namespace ptb
