// How many threads a rank runs: its share of the processor cores that it may use.
#pragma once

#include <bitset>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/comm/session.hpp"

namespace ptb {

// A set of CPUs, as Linux counts them (hardware threads). 8192 is the most that it is built for.
using CpuSet = std::bitset<8192>;

// What the ranks of one host may use of it.
struct HostCpus {
  std::vector<CpuSet> allowed;      // by host rank: the affinity mask
  std::function<int(int)> core_of;  // a number that the hardware threads of one core share
  double quota = std::numeric_limits<double>::infinity();  // CPUs' worth of time, of all ranks
};

// Every core of the rank's mask is divided among the ranks whose mask has it, the quota among all;
// at least 1. So ranks that are bound get their own cores, others an equal share.
int threads_of_rank(const HostCpus& host, int host_rank);

// CPUs' worth of time that control groups grant; infinite where none limits it. `groups` is
// /proc/self/cgroup, `root` where the file systems of versions 1 and 2 are mounted.
double cpu_quota(const std::string& groups, const std::filesystem::path& root);

// config.threads, else threads_of_rank() of this host. Collective.
int threads_of_this_rank(Session& session, const Config& config);

}  // namespace ptb
