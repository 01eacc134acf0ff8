#include "ptb_dist/run/identity.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "ptb_dist/base/numerics.hpp"
#include "ptb_dist/base/version.hpp"
#include "ptb_dist/train/lane_groups.hpp"

namespace ptb {

ExactClass exact_class_of(Session& session, const JobClass& job) {
  using HostAndThreads = std::pair<std::string, int>;
  const std::vector<HostAndThreads> all =
      session.gather(HostAndThreads(session.host(), job.threads));
  std::vector<std::string> hosts;
  std::vector<int> ranks_of_host;
  std::vector<std::string> threads_of_rank;
  for (const auto& [host, threads] : all) {
    threads_of_rank.push_back(std::to_string(threads));
    if (hosts.empty() || hosts.back() != host) {
      hosts.push_back(host);
      ranks_of_host.push_back(0);
    }
    ++ranks_of_host.back();
  }
  const auto [first, last] = std::ranges::unique(threads_of_rank);
  if (first - threads_of_rank.begin() == 1) threads_of_rank.resize(1);
  const bool is_any = job.lane_groups > 0 && is_subtree_each(job.lane_groups, session.size());
  const std::string any = fmt::format("any of {} lane groups", job.lane_groups);
  return {{"program", fmt::format("ptb_dist {}", kVersion)},
          {kNumericsMember, std::to_string(kNumerics)},
          {"ranks", is_any ? any : std::to_string(session.size())},
          {"ranks per host", is_any ? any : fmt::format("{}", fmt::join(ranks_of_host, ","))},
          {"threads", fmt::format("{}", fmt::join(threads_of_rank, ","))},
          {"backend", job.backend},
          {"all-reduce", is_any ? "along a tree" : job.communicator},
          {"MPI library", Session::library_version()}};
}

RunIdentity identity_of_run(Session& session, const Machine& machine, const Corpus& corpus,
                            const Config& config) {
  RunIdentity identity;
  identity.exact_class =
      exact_class_of(session, {.backend = machine.backend->identity(),
                               .communicator = machine.communicator->name(),
                               .threads = machine.threads,
                               .lane_groups = static_cast<int>(config.lane_groups)});
  identity.real = machine.backend->real_type();
  session.on_root([&] {
    identity.corpus = identity_of(corpus);
    identity.corpus_source = corpus.source;
  });
  return identity;
}

}  // namespace ptb
