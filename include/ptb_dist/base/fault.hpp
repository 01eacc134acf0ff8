// Faults on request (--inject), in every build: drills of users and our own tests use one
// mechanism.
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
  // In training the window of the run, from 0, before which it happens. The other phases do not
  // come every window: theirs is the first with so many windows of the run done.
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

// The faults of one rank, which the run passes by.
class Faults {
 public:
  Faults() = default;
  Faults(const std::vector<Fault>& all, int rank);

  // Carries out what is due in this phase with `step` windows of the run done; says so on standard
  // error. May not return.
  void at(Fault::Phase phase, std::int64_t step);
  // Whether the loss of window `step` is to be spoilt.
  bool spoils(std::int64_t step) const;

 private:
  std::vector<Fault> mine_;
  int rank_ = 0;
};

}  // namespace ptb
