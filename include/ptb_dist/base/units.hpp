// Numbers with their unit, as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace ptb {

// "512 bytes", "30.1 kB", "54.2 MB", "1.07 GB": decimal units, the one in which the number has one
// to three digits before the point. Where the exact number matters (an offset, the length of a
// damaged file) it is given in bytes instead.
std::string bytes_text(std::int64_t bytes);

}  // namespace ptb
