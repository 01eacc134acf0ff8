// The lock of a run directory: two jobs in one directory would spoil both runs.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "ptb_dist/base/file.hpp"

namespace ptb {

// Locks <folder>/.lock as long as the descriptor is open; its text names the holder. The kernel
// frees the lock however the process ends. Error 2 names the holder if there is one already; 74 if
// the file cannot be written. If the file system has no locks, a remark says so and the run goes
// on.
FileDescriptor lock_run_directory(const std::filesystem::path& folder,
                                  std::vector<std::string>& remarks);

}  // namespace ptb
