// What Linux's control groups grant to a process: those that it is in, and those that they are in.
#pragma once

#include <filesystem>
#include <string>

namespace ptb {

// In each function `groups` is the text of /proc/self/cgroup, `root` where the file systems of
// versions 1 and 2 are mounted. Infinite where none limits it.

// CPUs' worth of time.
double cpu_quota(const std::string& groups, const std::filesystem::path& root);
// Processes and threads, of all that are in the group.
double thread_limit(const std::string& groups, const std::filesystem::path& root);

// The same for this process.
double cpu_quota();
double thread_limit();

}  // namespace ptb
