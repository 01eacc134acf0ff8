// Counter-based random numbers: a number is a pure function of the seed and of what it is for.
//
// There is no generator state to carry, to save or to deal out, and a number does not depend on the
// number of ranks: dropout is keyed by the *global* lane. Philox4x32-10 (Salmon et al. 2011) turns
// a 128-bit counter and a 64-bit key into four 32-bit words; the packing of the counter below is
// part of the checkpoint format and is pinned by test vectors (tests/base/random_test.cpp).
//
//   key = {seed low 32 bits, seed high 32 bits}
//
//   purpose      counter[0]           counter[1]    counter[2]   counter[3]
//   initialise   element / 4, low     ... high 32   tensor       purpose << 28
//   dropout      time << 16 | unit/4  global lane   window       purpose << 28 | site << 20 | epoch
//   corpus       token / 4, low       ... high 32   split        purpose << 28
//
// Word i of the result belongs to element (unit, token) 4·q + i.
#pragma once

#include <Random123/philox.h>

#include <array>
#include <cstdint>

#include "ptb_dist/base/host_device.hpp"

namespace ptb {

enum class Purpose : std::uint32_t { initialise = 0, dropout = 1, corpus = 2 };

// Four independent uniform 32-bit words.
using RandomBlock = std::array<std::uint32_t, 4>;

// Bounds of the packing; the configuration schema keeps within them.
inline constexpr int kMaxEpochs = 1 << 20;       // epoch < 2^20
inline constexpr int kMaxSteps = 1 << 16;        // time < 2^16
inline constexpr int kMaxUnits = 1 << 18;        // unit < 2^18
inline constexpr int kMaxDropoutSites = 1 << 8;  // site < 2^8

PTB_HOST_DEVICE inline RandomBlock philox(std::uint64_t seed,
                                          const std::array<std::uint32_t, 4>& counter) {
  const r123::Philox4x32::ctr_type c = {{counter[0], counter[1], counter[2], counter[3]}};
  const r123::Philox4x32::key_type k = {
      {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)}};
  const r123::Philox4x32::ctr_type r = r123::Philox4x32{}(c, k);
  return {r.v[0], r.v[1], r.v[2], r.v[3]};
}

// Elements 4·quad .. 4·quad + 3 of a stream that has one index: a tensor's elements (purpose
// initialise, index = place in the parameter table) or a split's tokens (purpose corpus).
PTB_HOST_DEVICE inline RandomBlock random_stream(std::uint64_t seed, Purpose purpose,
                                                 std::uint32_t index, std::uint64_t quad) {
  return philox(seed, {static_cast<std::uint32_t>(quad), static_cast<std::uint32_t>(quad >> 32),
                       index, static_cast<std::uint32_t>(purpose) << 28});
}

// Where a dropout decision stands in the run. Site 0 is the embedding's output, site l + 1 the
// output of recurrent layer l (from the bottom, from 0); window is counted within the epoch.
struct DropoutPosition {
  std::uint32_t epoch;
  std::uint32_t window;
  std::uint32_t site;
  std::uint32_t lane;  // global
  std::uint32_t time;  // step within the window
};

// Words of units 4·quad .. 4·quad + 3.
PTB_HOST_DEVICE inline RandomBlock dropout_words(std::uint64_t seed, const DropoutPosition& at,
                                                 std::uint32_t quad) {
  return philox(seed,
                {at.time << 16 | quad, at.lane, at.window,
                 static_cast<std::uint32_t>(Purpose::dropout) << 28 | at.site << 20 | at.epoch});
}

// A unit is kept iff its word is below this threshold: keep_prob · 2^32, rounded to nearest.
// 64 bits wide, so that keep_prob = 1 keeps every word.
PTB_HOST_DEVICE inline std::uint64_t keep_threshold(double keep_prob) {
  return static_cast<std::uint64_t>(keep_prob * 4294967296.0 + 0.5);
}

// [0, 1) with 32 bits: exact in a double.
PTB_HOST_DEVICE inline double uniform_double(std::uint32_t word) {
  return static_cast<double>(word) * (1.0 / 4294967296.0);
}

}  // namespace ptb
