// The number of our own arithmetic: runs of one number, on one machine, have the same bits.
//
// Every commit that changes any bit of what training or evaluation computes, on whatever backend,
// instruction set or number of ranks, raises it by one: another order of a sum, another formula,
// other blocks, another counter of random numbers, another call of a library. It is in the exact
// class, so that a run which goes on from a checkpoint of other arithmetic says "equal up to
// rounding" and not "exactly". A new version of a library is no reason: those that matter have
// members of their own there. tests/numerics fails if bits change and the number does not, and says
// how to record anew.
//
//   1  what 0.1.0 computed before it had a number; its checkpoints do not name it
#pragma once

namespace ptb {

inline constexpr int kNumerics = 1;

// Its name in the exact class, and the number that a checkpoint without the member has.
inline constexpr const char* kNumericsMember = "numerics";
inline constexpr const char* kFirstNumerics = "1";

}  // namespace ptb
