#include "ptb_dist/run/threads.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <thread>

#include "ptb_dist/base/control_groups.hpp"
#include "ptb_dist/base/limits.hpp"
#include "ptb_dist/base/openmp_environment.hpp"

namespace ptb {
namespace {

// A save needs one more thread, and reading a checkpoint needs a process.
constexpr int kThreadsOfFiles = 2;

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

// The lowest hardware thread of a CPU's core: the list is "0,64" or "0-1". Without a list each
// hardware thread is a core.
int first_sibling(int cpu) {
  int first = cpu;
  std::ifstream list(
      fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
  return list >> first ? first : cpu;
}

// Reads each file once, because all ranks of a large host may use all of its CPUs.
std::function<int(int)> remembered(int (*core_of)(int)) {
  return [core_of, cores = std::map<int, int>()](int cpu) mutable {
    const auto [entry, is_new] = cores.try_emplace(cpu);
    if (is_new) entry->second = core_of(cpu);
    return entry->second;
  };
}

HostCpus cpus_of_host(Session& session) {
  return {.allowed = session.exchange_on_host(affinity_mask()),
          .core_of = remembered(first_sibling),
          .quota = cpu_quota()};
}

std::set<int> cores_of(const HostCpus& host, const CpuSet& cpus) {
  std::set<int> cores;
  for (std::size_t cpu = 0; cpu < cpus.size(); ++cpu) {
    if (cpus[cpu]) cores.insert(host.core_of(static_cast<int>(cpu)));
  }
  return cores;
}

// The value if it is a whole number above 0; else 0. OMP_NUM_THREADS may be a list: its first
// number counts.
int count_in_variable(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return 0;
  int count = 0;
  const char* end = text + std::strlen(text);
  const auto [rest, failure] = std::from_chars(text, end, count);
  return failure == std::errc() && (rest == end || *rest == ',') ? count : 0;
}

// Warns of settings in the environment that other programs follow and this one does not.
std::vector<std::string> ignored_settings(const Config& config, int threads, std::size_t cpus) {
  std::vector<std::string> lines;
  if (const auto hidden = hidden_openmp_settings(); !hidden.empty()) {
    std::vector<std::string> settings;
    for (const std::string_view setting : hidden) settings.push_back(escaped(setting));
    lines.push_back(fmt::format(
        "without effect here: {}; --threads says how many threads a rank has, and the launcher "
        "(--bind-to, --map-by, taskset) on which cores",
        fmt::join(settings, ", ")));
  }
  std::vector<std::string> counts;
  if (config.threads == 0) {
    for (const char* name : {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}) {
      const int count = count_in_variable(name);
      if (count > 0 && count != threads) counts.push_back(fmt::format("{}={}", name, count));
    }
  }
  if (!counts.empty()) {
    lines.push_back(
        fmt::format("without effect here: {}; rank 0 has {} thread{}, --threads gives "
                    "another number",
                    fmt::join(counts, ", "), threads, threads == 1 ? "" : "s"));
  }
  const int per_task = count_in_variable("SLURM_CPUS_PER_TASK");
  if (per_task > static_cast<int>(cpus)) {
    lines.push_back(fmt::format(
        "Slurm gives each task {0} CPUs (SLURM_CPUS_PER_TASK), but the launcher bound rank 0 to "
        "{1}; start it with mpirun --bind-to none or --map-by slot:pe={0}",
        per_task, cpus));
  }
  return lines;
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

std::string crowding(const HostCpus& host, const std::vector<int>& threads,
                     std::size_t cpus_of_host) {
  std::vector<std::set<int>> cores;  // by host rank
  CpuSet all;
  for (const CpuSet& cpus : host.allowed) {
    cores.push_back(cores_of(host, cpus));
    all |= cpus;
  }
  // The cores of each rank, then those of all ranks. Ranks whose cores are within a set share it.
  std::vector<std::pair<std::set<int>, CpuSet>> places;
  for (std::size_t rank = 0; rank < cores.size(); ++rank) {
    places.emplace_back(cores[rank], host.allowed[rank]);
  }
  places.emplace_back(cores_of(host, all), all);
  for (const auto& [place, cpus] : places) {
    int ranks = 0, wanted = 0;
    for (std::size_t rank = 0; rank < cores.size(); ++rank) {
      if (!std::ranges::includes(place, cores[rank])) continue;
      ++ranks;
      wanted += threads[rank];
    }
    if (wanted <= std::ssize(place)) continue;
    const bool is_bound = cpus.count() < cpus_of_host;
    const std::string who =
        ranks == 1 ? fmt::format("a rank has {} threads on", wanted)
                   : fmt::format("{} ranks with {} threads together share", ranks, wanted);
    return fmt::format(
        "{} {} core{}: this is slower than one thread per core, often by several times; {}", who,
        place.size(), place.size() == 1 ? "" : "s",
        is_bound ? "the launcher or the system bound them there: see mpirun's --bind-to none and "
                   "--map-by slot:pe=N"
                 : "start fewer ranks, or give fewer --threads");
  }
  return "";
}

Threads threads_of_this_rank(Session& session, const Config& config) {
  const HostCpus host = cpus_of_host(session);
  const bool is_asked_for = config.threads > 0;
  int wanted = static_cast<int>(config.threads);
  if (!is_asked_for) {
    // With lane groups 1: else sums over threads would depend on how many ranks share the host.
    wanted = config.lane_groups > 0 ? 1 : threads_of_rank(host, session.host_rank());
  }
  Threads threads;
  std::vector<std::string> mine;  // warnings
  // If OpenMP cannot start its threads it ends the process with a message of its own, so threads
  // are tried here first. The ranks of a host may share a limit, so all keep theirs until each has
  // tried.
  std::optional<IdleThreads> trial;
  session.on_every_rank([&] {
    trial.emplace(wanted - 1 + kThreadsOfFiles);
    threads.count = std::min(wanted, trial->count() - kThreadsOfFiles + 1);
    if (threads.count == wanted) return;
    if (threads.count < 1) {
      throw too_many_threads(
          fmt::format("{} for the files of a rank cannot be started", kThreadsOfFiles),
          trial->failure());
    }
    const std::string why =
        fmt::format("{} of {} could be started; {}", threads.count, wanted, limits_of_threads());
    if (is_asked_for) {
      throw Error(ExitCode::missing,
                  {.what = "too few threads",
                   .where = fmt::format("--threads {}", wanted),
                   .why = why,
                   .remedy = fmt::format("raise the limit, or use --threads {}", threads.count)});
    }
    mine.push_back(fmt::format("rank {} ({}) has fewer threads than cores: {}", session.rank(),
                               session.host(), why));
  });
  const std::vector<int> counts = session.exchange_on_host(threads.count);
  trial.reset();
  if (session.host_rank() == 0) {
    const std::string crowd =
        crowding(host, counts, static_cast<std::size_t>(sysconf(_SC_NPROCESSORS_ONLN)));
    if (!crowd.empty()) mine.push_back(fmt::format("{}: {}", session.host(), crowd));
  }
  if (session.is_root()) {
    const CpuSet& cpus = host.allowed[static_cast<std::size_t>(session.host_rank())];
    for (std::string& line : ignored_settings(config, threads.count, cpus.count())) {
      mine.push_back(std::move(line));
    }
  }
  for (std::vector<std::string>& of_rank : session.gather(mine)) {
    std::ranges::move(of_rank, std::back_inserter(threads.warnings));
  }
  return threads;
}

}  // namespace ptb
