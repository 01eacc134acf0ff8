#include "ptb_dist/run/machine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "ptb_dist/backend/choice.hpp"
#include "ptb_dist/comm/placement.hpp"
#include "ptb_dist/run/threads.hpp"

namespace ptb {
namespace {

// Root's warnings if `auto` took the CPU although there is an NVIDIA driver. Error 69 if only some
// ranks did: their replicas would not stay equal. Collective.
std::vector<std::string> missed_gpus(Session& session, const Config& config,
                                     const Backend& backend) {
  const bool is_missed = config.backend == "auto" && backend.name() == "cpu";
  const std::vector<std::string> names = session.gather(backend.name());
  const std::vector<std::string> reasons = session.gather(is_missed ? why_auto_is_cpu() : "");
  std::vector<std::string> warnings;
  session.on_root([&] {
    const bool is_mixed = std::ranges::find(names, "cuda") != names.end();
    for (std::size_t rank = 0; rank < reasons.size(); ++rank) {
      if (reasons[rank].empty()) continue;
      if (is_mixed) {
        throw Error(ExitCode::missing,
                    {.what = fmt::format("rank {} can use no GPU, and other ranks can", rank),
                     .where = "backend = auto",
                     .why = reasons[rank]});
      }
      std::string text = "backend = auto uses the CPU: " + reasons[rank];
      if (std::ranges::find(warnings, text) == warnings.end()) warnings.push_back(std::move(text));
    }
  });
  return warnings;
}

void append(std::vector<std::string>& to, std::vector<std::string> more) {
  std::ranges::move(more, std::back_inserter(to));
}

}  // namespace

Machine make_machine(Session& session, const Config& config, const Factories& factories) {
  Machine machine;
  Threads threads = threads_of_this_rank(session, config);
  machine.threads = threads.count;
  session.on_every_rank([&] {
    machine.backend = factories.backend({.name = config.backend,
                                         .precision = config.precision,
                                         .threads = machine.threads,
                                         .host_rank = session.host_rank()});
  });
  machine.warnings = missed_gpus(session, config, *machine.backend);
  require_same(session, "backend", machine.backend->identity());
  const std::vector<Placement> ranks = gather_placements(session, *machine.backend);
  session.on_root([&] {
    for (const Placement& rank : ranks) machine.hosts.push_back(rank.host);
    machine.lines = lines_of(ranks);
    if (machine.backend->name() == "cpu") append(machine.warnings, std::move(threads.warnings));
    // All GPUs are of one model, because it is part of the backends' identity.
    const std::vector<int> sharing = ranks_by_device(ranks);
    if (sharing.empty()) return;
    machine.peak_flops = static_cast<double>(sharing.size()) * machine.backend->device().peak_flops;
    machine.ranks_on_a_gpu = *std::ranges::max_element(sharing);
    if (config.comm != "mpi") append(machine.warnings, require_own_devices(ranks));
  });
  machine.communicator =
      factories.communicator(config.comm, session, *machine.backend,
                             config.lane_groups > 0 ? SumOrder::tree : SumOrder::fastest);
  return machine;
}

}  // namespace ptb
