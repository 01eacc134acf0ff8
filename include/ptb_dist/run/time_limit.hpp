// The time that a launch has: it stops early enough to save, as if a signal had asked for it.
#pragma once

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "ptb_dist/base/command_line.hpp"

namespace ptb {

// By the clocks on the wall: a pause of the whole job costs time, too.
struct TimeLimits {
  // --stop-after: since the start of this process.
  std::optional<StopAfter> stop_after{};
  // A file that holds the end as seconds since 1970. It may come late, change and go: it is read
  // again and again, and what is no number is no limit. Empty: there is none.
  std::filesystem::path end_file{};
};

// Of the command line, and of a batch script (launch/ptb_dist.sbatch) that names a file in
// PTB_DIST_END_FILE, since the end of its job may change.
TimeLimits time_limits_of(const CommandLine& line);

class TimeLimit {
 public:
  // A thread of its own asks the run to stop (`request`) when no more than twice what it needs to
  // leave is left, and two seconds. Without limits there is none. `seconds_to_leave` is called by
  // that thread until the end of this object. Throws std::system_error if no thread can be started.
  TimeLimit(TimeLimits limits, std::function<double()> seconds_to_leave,
            std::function<void(const std::string& reason)> request);
  ~TimeLimit();
  TimeLimit(const TimeLimit&) = delete;
  TimeLimit& operator=(const TimeLimit&) = delete;

 private:
  void watch();

  TimeLimits limits_;
  std::function<double()> seconds_to_leave_;
  std::function<void(const std::string&)> request_;
  std::mutex mutex_;
  std::condition_variable is_over_;
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace ptb
