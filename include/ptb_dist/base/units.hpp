// Numbers with their unit, as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace ptb {

// "512 bytes", "30.1 kB", "54.2 MB", "1.07 GB": in decimal units, with one to three digits before
// the point. Messages that need the exact number (an offset, the length of a damaged file) give
// bytes instead.
std::string bytes_text(std::int64_t bytes);

}  // namespace ptb
