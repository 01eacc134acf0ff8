// The limits that the system sets for a process. If a call of ours meets one, the run ends with 69
// and a line that names the limit, its value and how to raise it. A library that meets one ends the
// process with a message of its own, or crashes; so what it needs is tried before it is called.
#pragma once

#include <cstddef>
#include <latch>
#include <string>
#include <thread>
#include <vector>

#include "ptb_dist/base/error.hpp"

namespace ptb {

// The limits of this process, for messages: "at most 64 open files (ulimit -n)". That of memory is
// empty if only the machine itself limits memory.
std::string limits_of_threads();
std::string limits_of_files();
std::string limits_of_memory();

// Whether a call failed with this errno value because no more files may be open.
bool is_file_limit(int error_number);
// Error 69 for that, and for a thread or process that could not be started.
Error too_many_files(const std::string& what, const std::string& where, int error_number);
Error too_many_threads(const std::string& what, int error_number);
Error out_of_memory();

// In a catch block: what was thrown, as an Error. If memory or a thread was refused it is 69; any
// other exception that is no Error is a defect, 70.
Error error_in_flight();

// Threads that do nothing, to find out how many more this process may have. They end with the
// object; when its destructor returns the system counts them no more.
class IdleThreads {
 public:
  // Starts `wanted`, or as many as the system allows.
  explicit IdleThreads(int wanted);
  ~IdleThreads();
  IdleThreads(const IdleThreads&) = delete;
  IdleThreads& operator=(const IdleThreads&) = delete;

  int count() const { return static_cast<int>(threads_.size()); }
  // The errno value if fewer threads than wanted could be started, else 0.
  int failure() const { return failure_; }

 private:
  std::ptrdiff_t before_;  // threads of the process
  std::latch end_{1};
  std::vector<std::thread> threads_{};
  int failure_ = 0;
};

// Error 69 unless this process can start `count` more threads.
void require_threads(int count, const std::string& what);

// Error 69 unless there are enough files, threads and memory for MPI to start. `starts_daemon`: MPI
// will start a process of its own, as it does without a launcher.
void require_room_for_mpi(bool starts_daemon);

}  // namespace ptb
