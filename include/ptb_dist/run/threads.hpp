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

// What the ranks of one host may use of it.
struct HostCpus {
  std::vector<CpuSet> allowed;      // by host rank: the affinity mask
  std::function<int(int)> core_of;  // a number that the hardware threads of one core share
  double quota = std::numeric_limits<double>::infinity();  // CPUs' worth of time, of all ranks
};

// Every core of the rank's mask is divided among the ranks whose mask has it, the quota among all;
// at least 1. So ranks that are bound get their own cores, others an equal share.
int threads_of_rank(const HostCpus& host, int host_rank);

// Where ranks have more threads than cores, that and what to do about it, in one line; else empty.
// `threads` by host rank; `cpus_of_host` tells whether the launcher left them fewer.
std::string crowding(const HostCpus& host, const std::vector<int>& threads,
                     std::size_t cpus_of_host);

// How many threads this rank has, and what the log should say of that.
struct Threads {
  int count = 1;
  std::vector<std::string> warnings{};  // on root, of all ranks
};
// config.threads, or Error 69 if the system does not let so many start; else threads_of_rank() of
// this host, or as many of them as start. Collective.
Threads threads_of_this_rank(Session& session, const Config& config);

}  // namespace ptb
