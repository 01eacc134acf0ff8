// Limits that the system sets to a process: met by a call of ours they end the run with 69 and a
// line that names the limit, its value and how to raise it. Libraries that meet one end the process
// in words of their own, or crash; so what they will need is tried before they are called.
#pragma once

#include <cstddef>
#include <latch>
#include <string>
#include <thread>
#include <vector>

#include "ptb_dist/base/error.hpp"

namespace ptb {

// What the process has of each, for the messages of others: "at most 64 open files (ulimit -n)". Of
// memory empty where only the machine itself limits it.
std::string limits_of_threads();
std::string limits_of_files();
std::string limits_of_memory();

// Whether a call failed with this errno value because no more files may be open.
bool is_file_limit(int error_number);
// Error 69 for that, and for a thread or process that could not be started.
Error too_many_files(const std::string& what, const std::string& where, int error_number);
Error too_many_threads(const std::string& what, int error_number);
Error out_of_memory();

// Within a catch block: what was thrown, as an Error. Memory and threads that were refused are 69,
// anything else that is not an Error is a defect, 70.
Error error_in_flight();

// Threads that do nothing, to see how many this process may have beside those that there are. They
// end with the object, and have left the system's count when its destructor returns.
class IdleThreads {
 public:
  // Starts `wanted`, or as many as the system lets it.
  explicit IdleThreads(int wanted);
  ~IdleThreads();
  IdleThreads(const IdleThreads&) = delete;
  IdleThreads& operator=(const IdleThreads&) = delete;

  int count() const { return static_cast<int>(threads_.size()); }
  // Why there are not as many as wanted, an errno value; else 0.
  int failure() const { return failure_; }

 private:
  std::ptrdiff_t before_;  // threads of the process
  std::latch end_{1};
  std::vector<std::thread> threads_{};
  int failure_ = 0;
};

// Error 69 unless so many threads can exist beside those that there are.
void require_threads(int count, const std::string& what);

// Error 69 unless MPI has the files, threads and memory that its start takes; `starts_daemon`: it
// will start a process of its own, as it does without a launcher.
void require_room_for_mpi(bool starts_daemon);

}  // namespace ptb
