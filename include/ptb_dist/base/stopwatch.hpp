// Seconds since it was made, without those in which the whole job was paused: a pause is no slow
// training.
#pragma once

#include "ptb_dist/base/awake_clock.hpp"

namespace ptb {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(AwakeClock::now() - start_).count();
  }

 private:
  AwakeClock::time_point start_ = AwakeClock::now();
};

}  // namespace ptb
