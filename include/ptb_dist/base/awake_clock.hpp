// A clock that stands still while this process does not run: what every deadline is measured by.
//
// A job that is suspended and goes on (scontrol suspend, kill -STOP and -CONT, a stopped virtual
// machine) has not waited meanwhile: nobody was late, and no training was slow. A single rank that
// is stopped is found all the same, by the clocks of those that wait for it.
#pragma once

#include <chrono>

namespace ptb {

// The arithmetic: from the time of a clock that goes on to the time awake.
class AwakeTime {
 public:
  using Duration = std::chrono::steady_clock::duration;

  // Two looks that are further apart than `longest_step` had an absence between them, of which so
  // much is counted.
  AwakeTime(Duration longest_step, Duration begin) : longest_step_(longest_step), looked_(begin) {}

  // The time awake when the other clock shows `time`: equal at the beginning, later never ahead of
  // it, and never going back.
  Duration at(Duration time);

 private:
  Duration longest_step_;
  Duration looked_;
  Duration absent_{};
};

// As std::chrono's clocks are. Of any thread. A thread of the clock's own looks often enough.
struct AwakeClock {
  using duration = AwakeTime::Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<AwakeClock>;
  static constexpr bool is_steady = true;

  static time_point now();
};

// Calls `wait_for(left)`, which waits for at most `left` of anyone's time and says whether what it
// waits for has come, until it has or `patience` has passed awake.
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
