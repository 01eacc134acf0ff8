// A clock that stands still while this process does not run. Every deadline is measured by it.
//
// While a job is suspended (scontrol suspend, kill -STOP and -CONT, a stopped virtual machine) it
// does not wait: no rank is late, and training is not slow. If only one rank is stopped, the clocks
// of the ranks that wait for it go on, so the deadline still finds it.
#pragma once

#include <chrono>

namespace ptb {

// The arithmetic: from the time of a clock that always runs to the time awake.
class AwakeTime {
 public:
  using Duration = std::chrono::steady_clock::duration;

  // If two calls of at() are further apart than `longest_step`, the process did not run between
  // them, and only `longest_step` of that time counts.
  AwakeTime(Duration longest_step, Duration begin) : longest_step_(longest_step), looked_(begin) {}

  // The time awake when the other clock shows `time`. Equal to it at the beginning, later never
  // ahead of it; never decreases.
  Duration at(Duration time);

 private:
  Duration longest_step_;
  Duration looked_;
  Duration absent_{};
};

// Has the members of std::chrono's clocks. Any thread may use it. The clock has a thread of its own
// that calls AwakeTime::at often enough.
struct AwakeClock {
  using duration = AwakeTime::Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<AwakeClock>;
  static constexpr bool is_steady = true;

  static time_point now();
};

// Calls `wait_for(left)` until it returns true or `patience` has passed awake; returns which. It
// waits for at most `left` of any clock and returns whether what it waits for has happened.
template <class WaitFor>
bool wait_awake(AwakeClock::duration patience, WaitFor wait_for) {
  const AwakeClock::time_point end = AwakeClock::now() + patience;
  for (;;) {
    const AwakeClock::duration left = end - AwakeClock::now();
    if (wait_for(left > AwakeClock::duration::zero() ? left : AwakeClock::duration::zero())) {
      return true;
    }
    if (left <= AwakeClock::duration::zero()) return false;
  }
}

void sleep_awake(AwakeClock::duration duration);

}  // namespace ptb
