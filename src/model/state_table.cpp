#include "ptb_dist/model/state_table.hpp"

#include <fmt/format.h>

namespace ptb {

std::vector<StateInfo> state_table(const ModelShape& shape, std::int64_t lanes) {
  std::vector<StateInfo> table;
  const CellTraits cell = traits_of(shape.cell.kind);
  for (int layer = 0; layer < shape.num_layers; ++layer) {
    const auto add = [&](const char* which) {
      table.push_back(
          {fmt::format("/state/{}/{}/{}", cell.name, layer, which), {lanes, shape.hidden_size}});
    };
    add("h");
    if (cell.has_c) add("c");
  }
  return table;
}

std::int64_t elements_of(const std::vector<StateInfo>& table) {
  std::int64_t elements = 0;
  for (const StateInfo& entry : table) elements += entry.shape.elements();
  return elements;
}

}  // namespace ptb
