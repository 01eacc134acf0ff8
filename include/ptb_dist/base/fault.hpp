// Faults on request (--inject), in every build: users' drills and our own tests use the same ones.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace ptb {

// "kind@rank:window[:phase]", for example "kill@1:50" or "hang@0:100:save".
struct Fault {
  enum class Kind {
    kill,  // SIGKILL
    hang,  // never goes on
    slow,  // sleeps kSlowMilliseconds, this time and every later one
    nan,   // the window's loss is not a number (in training alone)
  };
  enum class Phase { train, validation, test, save };

  Kind kind = Kind::kill;
  int rank = 0;
  // In training the fault happens before this window of the run, from 0. The other phases do not
  // happen at every window: the fault happens in the first one after this many windows of the run.
  std::int64_t window = 0;
  Phase phase = Phase::train;

  std::string text() const;
  static auto members(auto& self) {  // for base/archive.hpp
    auto& [kind, rank, window, phase] = self;
    return std::tie(kind, rank, window, phase);
  }
};
inline constexpr int kSlowMilliseconds = 200;

// Nothing if the text is no fault.
std::optional<Fault> parse_fault(const std::string& text);

// The faults of one rank. The run calls at() in each place where a fault may happen.
class Faults {
 public:
  Faults() = default;
  Faults(const std::vector<Fault>& all, int rank);

  // Carries out the faults that are due in this phase after `step` windows of the run, and says so
  // on standard error. May not return.
  void at(Fault::Phase phase, std::int64_t step);
  // Whether the loss of window `step` is to become NaN.
  bool spoils(std::int64_t step) const;

 private:
  std::vector<Fault> mine_;
  int rank_ = 0;
};

}  // namespace ptb
