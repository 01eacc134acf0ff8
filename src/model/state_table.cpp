#include "ptb_dist/model/state_table.hpp"

#include <fmt/format.h>

namespace ptb {

std::vector<StateInfo> state_table(const ModelShape& shape, std::int64_t lanes) {
  std::vector<StateInfo> table;
  for (int layer = 0; layer < shape.num_layers; ++layer) {
    for (const char* which : {"h", "c"}) {
      table.push_back({fmt::format("/state/lstm/{}/{}", layer, which), {lanes, shape.hidden_size}});
    }
  }
  return table;
}

std::int64_t elements_of(const std::vector<StateInfo>& table) {
  std::int64_t elements = 0;
  for (const StateInfo& entry : table) elements += entry.shape.elements();
  return elements;
}

}  // namespace ptb
