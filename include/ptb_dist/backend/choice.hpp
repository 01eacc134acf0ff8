// How `backend = auto` chose, for the log.
#pragma once

#include <string>

namespace ptb {

// Why "auto" (make_backend) takes no GPU although this host has an NVIDIA driver, and how to mend
// that. Empty if it takes one, or if there is no driver.
std::string why_auto_is_cpu();

}  // namespace ptb
