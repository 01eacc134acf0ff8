// The number of our own arithmetic: runs of one number, on one machine, have the same bits.
//
// Every commit that changes any bit of what training or evaluation computes raises it by one, on
// whatever backend, instruction set or number of ranks that is: another order of a sum, another
// formula or cut into blocks, another counter of random numbers, another call of a library. It is part
// of the exact class, so that a run which goes on from a checkpoint of other arithmetic says "equal up
// to rounding" and not "exactly". A version of a library or compiler is no reason: those that matter
// have members of their own in the exact class (the compiler has none: say it here if one is found to
// matter). tests/numerics fails if bits change and the number does not, and says how to record anew.
//
//   1  ptb_dist 0.1.0 up to and with the commits that had no number; checkpoints of it do not name it
#pragma once

namespace ptb {

inline constexpr int kNumerics = 1;

// Its name in the exact class, and the number that a checkpoint without the member has.
inline constexpr const char* kNumericsMember = "numerics";
inline constexpr const char* kFirstNumerics = "1";

}  // namespace ptb
