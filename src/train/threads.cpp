#include "ptb_dist/train/threads.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <latch>
#include <map>
#include <numeric>
#include <set>
#include <sstream>
#include <string_view>
#include <system_error>
#include <thread>

#include "ptb_dist/base/openmp_environment.hpp"

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

// Of both versions: "max" or a number.
double threads_of_group(const fs::path& group) {
  double threads = 0;
  std::ifstream(group / "pids.max") >> threads;
  return threads > 0 ? threads : kNoLimit;
}

// A group is limited by those that it is in as well. Inside a container its path may be that of the
// host, of which only the end of the walk is there to be read.
template <class LimitOf>
double smallest_limit(const fs::path& root, fs::path group, LimitOf limit_of) {
  double smallest = limit_of(root);
  for (group = group.relative_path(); !group.empty(); group = group.parent_path()) {
    smallest = std::min(smallest, limit_of(root / group));
  }
  return smallest;
}

// Over the groups of a process that have this controller.
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

constexpr const char* kGroups = "/proc/self/cgroup";
constexpr const char* kGroupRoot = "/sys/fs/cgroup";

HostCpus cpus_of_host(Session& session) {
  const CpuSet mine = affinity_mask();
  const std::vector<std::byte> all = session.exchange_on_host(std::as_bytes(std::span(&mine, 1)));
  HostCpus host{.allowed = std::vector<CpuSet>(static_cast<std::size_t>(session.host_size())),
                .core_of = first_sibling,
                .quota = cpu_quota(text_of(kGroups), kGroupRoot)};
  std::memcpy(host.allowed.data(), all.data(), all.size());
  return host;
}

std::set<int> cores_of(const HostCpus& host, const CpuSet& cpus) {
  std::set<int> cores;
  for (std::size_t cpu = 0; cpu < cpus.size(); ++cpu) {
    if (cpus[cpu]) cores.insert(host.core_of(static_cast<int>(cpu)));
  }
  return cores;
}

std::ptrdiff_t threads_of_process() {
  std::error_code failure;
  return std::distance(fs::directory_iterator("/proc/self/task", failure), {});
}

// Those that could be why a thread did not start.
std::string limits_of_threads() {
  std::vector<std::string> limits;
  rlimit limit{};
  if (getrlimit(RLIMIT_NPROC, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    limits.push_back(fmt::format("ulimit -u is {} threads of this user", limit.rlim_cur));
  }
  const double of_groups = thread_limit(text_of(kGroups), kGroupRoot);
  if (of_groups < kNoLimit) {
    limits.push_back(fmt::format("pids.max of its control group is {:.0f} threads", of_groups));
  }
  if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    limits.push_back(fmt::format("ulimit -v is {} kB for their stacks", limit.rlim_cur / 1024));
  }
  if (limits.empty()) limits.emplace_back("the system has no more");
  return fmt::format("{}", fmt::join(limits, ", "));
}

// A whole number above 0, alone; else 0. OMP_NUM_THREADS may be a list, of which the first counts.
int count_in_variable(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return 0;
  int count = 0;
  const char* end = text + std::strlen(text);
  const auto [rest, failure] = std::from_chars(text, end, count);
  return failure == std::errc() && (rest == end || *rest == ',') ? count : 0;
}

// What other programs take from the environment and this one does not, where it would differ.
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

double cpu_quota(const std::string& groups, const fs::path& root) {
  return smallest_limit(groups, root, "cpu", quota_of_version_2, quota_of_version_1);
}

double thread_limit(const std::string& groups, const fs::path& root) {
  return smallest_limit(groups, root, "pids", threads_of_group, threads_of_group);
}

int startable_threads(int wanted) {
  const std::ptrdiff_t before = threads_of_process();
  std::latch end(1);
  std::vector<std::thread> others;
  others.reserve(static_cast<std::size_t>(wanted));
  try {
    while (std::ssize(others) < wanted - 1) others.emplace_back([&] { end.wait(); });
  } catch (const std::system_error&) {  // the number that there are is the answer
  }
  end.count_down();
  for (std::thread& thread : others) thread.join();
  // The kernel counts a thread for a moment after it was joined, and OpenMP's are started next.
  for (int wait = 0; wait < 1000 && threads_of_process() > before; ++wait) {
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  return static_cast<int>(others.size()) + 1;
}

std::string crowding(const HostCpus& host, const std::vector<int>& threads,
                     std::size_t cpus_of_host) {
  std::vector<std::set<int>> cores;  // by host rank
  CpuSet all;
  for (const CpuSet& cpus : host.allowed) {
    cores.push_back(cores_of(host, cpus));
    all |= cpus;
  }
  // The cores of each rank, then those of all: who has nothing beyond them has to share them.
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
        "{} {} core{}: slower than a thread a core, often several times; {}", who, place.size(),
        place.size() == 1 ? "" : "s",
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
    // Sums over threads would depend on how many ranks share the host.
    wanted = config.lane_groups > 0 ? 1 : threads_of_rank(host, session.host_rank());
  }
  Threads threads;
  std::vector<std::string> mine;  // warnings
  session.on_every_rank([&] {
    threads.count = startable_threads(wanted);
    if (threads.count == wanted) return;
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
  const std::vector<std::byte> bytes =
      session.exchange_on_host(std::as_bytes(std::span(&threads.count, 1)));
  std::vector<int> counts(static_cast<std::size_t>(session.host_size()));
  std::memcpy(counts.data(), bytes.data(), bytes.size());
  const std::string crowd =
      crowding(host, counts, static_cast<std::size_t>(sysconf(_SC_NPROCESSORS_ONLN)));
  if (session.host_rank() == 0 && !crowd.empty()) {
    mine.push_back(fmt::format("{}: {}", session.host(), crowd));
  }
  if (session.is_root()) {
    const CpuSet& cpus = host.allowed[static_cast<std::size_t>(session.host_rank())];
    for (std::string& line : ignored_settings(config, threads.count, cpus.count())) {
      mine.push_back(std::move(line));
    }
  }
  for (const std::string& lines : session.gather(fmt::format("{}", fmt::join(mine, "\n")))) {
    std::istringstream text(lines);
    for (std::string line; std::getline(text, line);) threads.warnings.push_back(line);
  }
  return threads;
}

}  // namespace ptb
