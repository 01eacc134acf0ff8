// One table of the state that a run carries from window to window, beside its parameters. It drives
// saving, checking and resuming, as the table of parameters does (model/parameters.hpp).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ptb_dist/model/parameters.hpp"

namespace ptb {

struct StateInfo {
  std::string name;  // path in an HDF5 file: "/state/lstm/0/h"
  Shape shape;       // [B,...]: the first axis is the lanes'
};

// For this many lanes, in the order of RecurrentState::tensors().
std::vector<StateInfo> state_table(const ModelShape& shape, std::int64_t lanes);
// Elements of all its tensors together.
std::int64_t elements_of(const std::vector<StateInfo>& table);

}  // namespace ptb
