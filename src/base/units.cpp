#include "ptb_dist/base/units.hpp"

#include <fmt/format.h>

#include <array>

namespace ptb {

std::string bytes_text(std::int64_t bytes) {
  struct Unit {
    const char* name;
    int decimals;
  };
  constexpr std::array units{Unit{"kB", 1}, Unit{"MB", 1}, Unit{"GB", 2}, Unit{"TB", 2}};
  if (bytes < 1000) return fmt::format("{} byte{}", bytes, bytes == 1 ? "" : "s");
  double value = static_cast<double>(bytes) / 1e3;
  std::size_t unit = 0;
  // With one decimal, 999.95 and more would round to 1000.0.
  for (; value >= 999.95 && unit + 1 < units.size(); ++unit) value /= 1000;
  return fmt::format("{:.{}f} {}", value, units[unit].decimals, units[unit].name);
}

}  // namespace ptb
