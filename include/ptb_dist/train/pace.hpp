// The speed of training, over those windows of an epoch that this process has run. Time in which
// nothing is trained, such as a save, does not count.
#pragma once

#include "ptb_dist/base/stopwatch.hpp"

namespace ptb {

class Pace {
 public:
  // An epoch begins, or a resumed run enters one.
  void begin_epoch() { *this = {}; }
  // The result of one more window has come; the seconds that it took.
  double window_done() {
    const double seconds = since_last_.seconds();
    seconds_ += seconds;
    since_last_ = {};
    ++windows_;
    return seconds;
  }
  // The time since the last call was no training.
  void skip() { since_last_ = {}; }

  double seconds() const { return seconds_; }
  // Both are not finite before the first window is done.
  double per_second(double of_a_window) const { return windows_ * of_a_window / seconds_; }
  double seconds_for(double windows) const { return windows * seconds_ / windows_; }

 private:
  double seconds_ = 0;
  int windows_ = 0;
  Stopwatch since_last_{};
};

}  // namespace ptb
