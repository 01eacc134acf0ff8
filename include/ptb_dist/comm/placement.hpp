// Which rank computes where.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "ptb_dist/backend/backend.hpp"
#include "ptb_dist/comm/session.hpp"

namespace ptb {

struct Placement {
  std::string host;
  PhysicalDevice device{};
  std::string nccl_host{};  // $NCCL_HOSTID, by which NCCL knows a host if it is set

  static auto members(auto& self) {
    auto& [host, device, nccl_host] = self;
    return std::tie(host, device, nccl_host);
  }
};

// Everyone's, by rank, on root; empty elsewhere. Collective.
std::vector<Placement> gather_placements(Session& session, const Backend& backend);

// "Rank 3: node17, NVIDIA H200, GPU-5f0c..., 0000:3b:00.0", a line a rank; none where no rank has a
// device.
std::vector<std::string> lines_of(const std::vector<Placement>& placements);

// For each device that ranks have, how many have it.
std::vector<int> ranks_by_device(const std::vector<Placement>& placements);

// Pairs of ranks on one GPU: a line each where NCCL takes the two for ranks of different hosts by
// NCCL_HOSTID and lets them. Error 69 for any other pair.
std::vector<std::string> require_own_devices(const std::vector<Placement>& placements);

}  // namespace ptb
