// How many threads a rank runs: its share of the processor cores that it may use.
#pragma once

#include <bitset>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "ptb_dist/base/config.hpp"
#include "ptb_dist/comm/session.hpp"

namespace ptb {

// A set of CPUs, as Linux counts them (hardware threads). 8192 is the most that it is built for.
using CpuSet = std::bitset<8192>;

// The CPUs that the ranks of one host may use.
struct HostCpus {
  std::vector<CpuSet> allowed;      // by host rank: the affinity mask
  std::function<int(int)> core_of;  // a number that the hardware threads of one core share
  double quota = std::numeric_limits<double>::infinity();  // CPUs' worth of time, of all ranks
};

// Each core of the rank's mask is divided among the ranks whose mask has it, the quota among all
// ranks of the host; at least 1. So bound ranks get their own cores, and others an equal share.
int threads_of_rank(const HostCpus& host, int host_rank);

// If ranks have more threads than cores: one line that says so, and what to do; else empty.
// `threads` is by host rank; `cpus_of_host` shows whether the launcher allows the ranks fewer.
std::string crowding(const HostCpus& host, const std::vector<int>& threads,
                     std::size_t cpus_of_host);

// How many threads this rank has, and warnings about that.
struct Threads {
  int count = 1;
  std::vector<std::string> warnings{};  // on root, of all ranks
};
// If config.threads is set, that number, or Error 69 if the system starts fewer. Else
// threads_of_rank(), or as many as the system starts. Collective.
Threads threads_of_this_rank(Session& session, const Config& config);

}  // namespace ptb
