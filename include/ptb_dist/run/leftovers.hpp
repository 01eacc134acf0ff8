// Removes what killed jobs have left on a host; nothing else ever does.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "ptb_dist/comm/session.hpp"

namespace ptb {

// Where Open MPI 4 keeps its files, and the host and user whose files are looked at.
struct LeftoverPlaces {
  std::filesystem::path memory = "/dev/shm";  // vader_segment.HOST.UID.*, 4 MB a rank
  std::filesystem::path sessions;             // ompi.HOST.UID, a folder for each job
  std::filesystem::path processes = "/proc";
  std::string host;  // as MPI names it
  unsigned user = 0;
  // Younger files may belong to a job that is starting and has not opened them yet.
  std::chrono::seconds age = std::chrono::minutes(1);
};

struct Leftovers {
  int segments = 0;
  std::int64_t segment_bytes = 0;
  int sessions = 0;
};

// Removes shared memory segments, and session folders of mpirun and its daemons, that no process
// has open or mapped. Removes nothing without /proc. Processes that /proc does not show, because
// another container of this host's name shares the memory, count as ended. Throws nothing: a file
// that cannot be removed stays.
Leftovers remove_leftovers(const LeftoverPlaces& places);

// The same for this user on every host of the run, by one rank of each. Returns, on root, a line
// for each host where something was removed. Collective.
std::vector<std::string> remove_leftovers(Session& session);

}  // namespace ptb
