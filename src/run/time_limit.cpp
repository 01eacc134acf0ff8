#include "ptb_dist/run/time_limit.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <utility>

namespace ptb {
namespace {

using Seconds = std::chrono::duration<double>;

// From one look to the next. A limit that has changed is seen in that time, and so are a window or
// a save that took longer than all before.
constexpr auto kLook = std::chrono::seconds(1);
constexpr double kMargin = 2;  // seconds; more than a look

constexpr double kNever = std::numeric_limits<double>::infinity();

const auto kStart = std::chrono::steady_clock::now();  // before main

double left_of(const StopAfter& stop_after) {
  return stop_after.seconds - Seconds(std::chrono::steady_clock::now() - kStart).count();
}

double left_until_end_in(const std::filesystem::path& file) {
  double end = 0;
  if (!(std::ifstream(file) >> end)) return kNever;
  return end - Seconds(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

TimeLimits time_limits_of(const CommandLine& line) {
  const char* const end_file = std::getenv("PTB_DIST_END_FILE");
  return {.stop_after = line.stop_after, .end_file = end_file != nullptr ? end_file : ""};
}

TimeLimit::TimeLimit(TimeLimits limits, std::function<double()> seconds_to_leave,
                     std::function<void(const std::string&)> request)
    : limits_(std::move(limits)),
      seconds_to_leave_(std::move(seconds_to_leave)),
      request_(std::move(request)) {
  if (limits_.stop_after || !limits_.end_file.empty()) thread_ = std::thread([this] { watch(); });
}

TimeLimit::~TimeLimit() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  is_over_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void TimeLimit::watch() {
  std::unique_lock lock(mutex_);
  do {
    const double needed = 2 * seconds_to_leave_() + kMargin;
    if (limits_.stop_after && left_of(*limits_.stop_after) < needed) {
      return request_("--stop-after " + limits_.stop_after->text);
    }
    if (!limits_.end_file.empty() && left_until_end_in(limits_.end_file) < needed) {
      return request_("the end of the job's time");
    }
  } while (!is_over_.wait_for(lock, kLook, [this] { return ends_; }));
}

}  // namespace ptb
