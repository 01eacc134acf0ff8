// A number for the program's arithmetic: on one machine, runs with the same number have the same
// bits.
//
// A commit raises it by one if it changes any bit that training or evaluation computes, on any
// backend, instruction set or number of ranks: another order of a sum, another formula, other
// blocks, another counter of random numbers, another call of a library. The number is part of the
// exact class, so a run that resumes from a checkpoint of other arithmetic says "equal up to
// rounding" and not "exactly". A new version of a library does not raise it: the libraries that
// matter are members of the exact class themselves. tests/numerics fails if bits change and the
// number does not, and says how to record new digests.
//
//   1  what 0.1.0 computed before it had a number; its checkpoints do not name it
#pragma once

namespace ptb {

inline constexpr int kNumerics = 1;

// Its name in the exact class, and the number that a checkpoint without the member has.
inline constexpr const char* kNumericsMember = "numerics";
inline constexpr const char* kFirstNumerics = "1";

}  // namespace ptb
