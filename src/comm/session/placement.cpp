#include "ptb_dist/comm/placement.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <map>
#include <tuple>

namespace ptb {
namespace {

std::string text_of(const Placement& placement) {
  const PhysicalDevice& device = placement.device;
  return fmt::format("{}, {}, {}, {}", placement.host, device.name, device.uuid, device.bus_id);
}

// Parts of one GPU (MIG) have its bus id.
std::string remedy_of(const Placement& placement) {
  if (placement.device.name.find(" MIG ") != std::string::npos) {
    return "NCCL takes parts of a GPU (MIG) for one too: give each rank a whole GPU, or use "
           "--comm mpi";
  }
  return "start a rank for each GPU, or let them share with --comm mpi";
}

}  // namespace

std::vector<Placement> gather_placements(Session& session, const Backend& backend) {
  const char* nccl_host = std::getenv("NCCL_HOSTID");
  const Placement mine{.host = session.host(),
                       .device = backend.device(),
                       .nccl_host = nccl_host == nullptr ? "" : nccl_host};
  return session.gather(mine);
}

std::vector<std::string> lines_of(const std::vector<Placement>& placements) {
  std::vector<std::string> lines;
  for (std::size_t rank = 0; rank < placements.size(); ++rank) {
    if (placements[rank].device.uuid.empty()) continue;
    lines.push_back(fmt::format("Rank {}: {}", rank, text_of(placements[rank])));
  }
  return lines;
}

std::vector<int> ranks_by_device(const std::vector<Placement>& placements) {
  std::map<std::tuple<std::string, std::string>, int> ranks;
  for (const Placement& placement : placements) {
    if (!placement.device.uuid.empty()) ++ranks[{placement.host, placement.device.bus_id}];
  }
  std::vector<int> counts;
  for (const auto& [device, count] : ranks) counts.push_back(count);
  return counts;
}

std::vector<std::string> require_own_devices(const std::vector<Placement>& placements) {
  std::vector<std::string> allowed;
  std::map<std::tuple<std::string, std::string>, std::vector<std::size_t>> ranks_of;
  for (std::size_t rank = 0; rank < placements.size(); ++rank) {
    if (placements[rank].device.uuid.empty()) continue;
    std::vector<std::size_t>& earlier =
        ranks_of[{placements[rank].host, placements[rank].device.bus_id}];
    for (const std::size_t other : earlier) {
      if (placements[other].nccl_host == placements[rank].nccl_host) {
        throw Error(ExitCode::missing,
                    {.what = "more ranks than GPUs",
                     .where = fmt::format("ranks {} and {}", other, rank),
                     .why = fmt::format("both have {}", text_of(placements[rank])),
                     .remedy = remedy_of(placements[rank])});
      }
      allowed.push_back(
          fmt::format("ranks {} and {} share {}, which NCCL_HOSTID allows: a trial, "
                      "slower than a rank for each GPU",
                      other, rank, text_of(placements[rank])));
    }
    earlier.push_back(rank);
  }
  return allowed;
}

}  // namespace ptb
