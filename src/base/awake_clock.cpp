#include "ptb_dist/base/awake_clock.hpp"

#include <algorithm>
#include <mutex>
#include <system_error>
#include <thread>

namespace ptb {
namespace {

// On a busy machine a sleeping thread gets its core late, but not by kLongestStep. A suspension may
// use up a deadline that is shorter than that.
constexpr auto kTick = std::chrono::milliseconds(50);
constexpr auto kLongestStep = std::chrono::milliseconds(250);

// The process has one. It is never destroyed, because its thread runs until the last instruction.
class Ticker {
 public:
  static Ticker& instance() {
    static Ticker& ticker = *new Ticker;
    return ticker;
  }

  AwakeTime::Duration look() {
    const std::lock_guard lock(mutex_);  // first: else the time could be older than the last one
    return time_.at(real());
  }

 private:
  Ticker() {
    try {
      std::thread([this] {
        for (;;) {
          look();
          std::this_thread::sleep_for(kTick);
        }
      }).detach();
    } catch (const std::system_error&) {  // a limit on threads: then only now() reads the clock
    }
  }

  static AwakeTime::Duration real() { return std::chrono::steady_clock::now().time_since_epoch(); }

  std::mutex mutex_;
  AwakeTime time_{kLongestStep, real()};
};

}  // namespace

AwakeTime::Duration AwakeTime::at(Duration time) {
  absent_ += std::max(time - looked_ - longest_step_, Duration::zero());
  looked_ = time;
  return time - absent_;
}

AwakeClock::time_point AwakeClock::now() { return time_point(Ticker::instance().look()); }

void sleep_awake(AwakeClock::duration duration) {
  wait_awake(duration, [](AwakeClock::duration left) {
    std::this_thread::sleep_for(left);
    return false;
  });
}

}  // namespace ptb
