// How `backend = auto` chose, for the log.
#pragma once

#include <string>

namespace ptb {

// What kept "auto" (backend.hpp, make_backend) from a GPU though this host has an NVIDIA driver,
// with the way to mend it; empty where nobody would expect one.
std::string why_auto_is_cpu();

}  // namespace ptb
