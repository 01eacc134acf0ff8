// The lock of a run directory: two jobs that write one would spoil both runs.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "ptb_dist/base/file.hpp"

namespace ptb {

// Locks <folder>/.lock, whose text names the holder, for as long as the descriptor is open: the
// kernel frees it whatever ends the process. Error 2 names who holds it already; 74 if the file
// cannot be written. Where the file system has no locks a remark says so and the run goes on.
FileDescriptor lock_run_directory(const std::filesystem::path& folder,
                                  std::vector<std::string>& remarks);

}  // namespace ptb
