// What Linux's control groups grant to a process: its own groups and all groups above them.
#pragma once

#include <filesystem>
#include <string>

namespace ptb {

// In each function `groups` is the text of /proc/self/cgroup, and `root` is where the file systems
// of versions 1 and 2 are mounted. The result is infinite if no group has a limit.

// CPUs' worth of time.
double cpu_quota(const std::string& groups, const std::filesystem::path& root);
// Processes and threads of the whole group together.
double thread_limit(const std::string& groups, const std::filesystem::path& root);

// The same for this process.
double cpu_quota();
double thread_limit();

}  // namespace ptb
