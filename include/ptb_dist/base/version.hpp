// What this build is: for --version, the log's first line, and the handshake between ranks.
#pragma once

#include <string>

namespace ptb {

inline constexpr const char* kVersion = "0.1.0";

// Git revision of the source tree, with "-dirty" if files were changed, or "unknown".
std::string git_revision();
// Compiler and build type.
std::string compiler();
// Libraries of this build, one "name: version" line each; "without" if a part was not built.
std::string build_information();

}  // namespace ptb
