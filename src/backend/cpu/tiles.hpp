// Products of bf16 matrices in tiles, as AMX has them: the loops and the layout of the operands,
// over any kind of tiles. amx.cpp has the processor's, the tests have plain arrays, so that
// layouts, edges and blocks are tested where there is no AMX.
//
// c [M,N] = a [M,K]·b [K,N] is made in blocks of 32 x 32: two tiles of `a` (16 rows x 32 of K each)
// by two of `b` (32 of K x 16 columns each) into four of `c` (16 x 16 f32), so that each tile that
// is loaded is used twice. K is padded with zeros to whole tiles. Every element of c is the sum
// over K in one order, whatever M, N and the number of threads: its bits depend on its row of a and
// its column of b alone.
//
//   a   row-major; a row begins at a multiple of 32 elements (padded(), 64 bytes), zeros behind K
//   b   packed in panels of 16 columns: [panel][K / 32][16][16][2], where [r][c][i] is
//       b[32·k + 2·r + i][16·panel + c], zeros beyond K and N: what TDPBF16PS takes
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/cpu/bf16.hpp"

namespace ptb::tiles {

inline constexpr std::int64_t kRows = 16;                     // of a and c in a tile
inline constexpr std::int64_t kColumns = 16;                  // of b and c
inline constexpr std::int64_t kDepth = 32;                    // of K
inline constexpr std::int64_t kElements = kDepth * kColumns;  // of a packed tile

constexpr std::int64_t panels_of(std::int64_t columns) {
  return (columns + kColumns - 1) / kColumns;
}
constexpr std::int64_t depths_of(std::int64_t inner) { return (inner + kDepth - 1) / kDepth; }

// A part of a product: some rows, neighbouring panels, some of K.
struct Part {
  const Bf16* a = nullptr;  // its first row and element
  std::int64_t a_stride = 0;
  const Bf16* b = nullptr;          // its first panel, and tile in that
  std::int64_t panel_elements = 0;  // from one panel to the next
  float* c = nullptr;
  std::int64_t c_stride = 0;
  std::int64_t rows = 0, columns = 0, depths = 0;
  bool adds = false;  // to what is in c
};

// How much of the tiles of a block is used: rows of the upper and the lower pair, columns of the
// left and the right.
struct Used {
  int upper = 0, lower = 0, left = 0, right = 0;
  bool operator==(const Used&) const = default;
};

// Names of tiles. A kind of tiles has, for the thread that calls, configure(Used), release(), and
// for each name: zero<tile>(), load<tile>(address, bytes from row to row), store<tile>(the same),
// multiply<c, a, b>().
inline constexpr int kUpperLeft = 0, kUpperRight = 1, kLowerLeft = 2, kLowerRight = 3;
inline constexpr int kUpper = 4, kLower = 5, kLeft = 6, kRight = 7;

// Not inlined, so that the addresses of the inner loop stay in registers.
template <class Tiles, bool kHasLower, bool kHasRight>
[[gnu::noinline]] void multiply_block(const Part& part, const Bf16* a, const Bf16* b, float* c) {
  const std::int64_t c_bytes = part.c_stride * std::int64_t{sizeof(float)};
  float* const lower = c + kRows * part.c_stride;
  if (part.adds) {
    Tiles::template load<kUpperLeft>(c, c_bytes);
    if constexpr (kHasRight) Tiles::template load<kUpperRight>(c + kColumns, c_bytes);
    if constexpr (kHasLower) Tiles::template load<kLowerLeft>(lower, c_bytes);
    if constexpr (kHasLower && kHasRight) {
      Tiles::template load<kLowerRight>(lower + kColumns, c_bytes);
    }
  } else {
    Tiles::template zero<kUpperLeft>();
    if constexpr (kHasRight) Tiles::template zero<kUpperRight>();
    if constexpr (kHasLower) Tiles::template zero<kLowerLeft>();
    if constexpr (kHasLower && kHasRight) Tiles::template zero<kLowerRight>();
  }
  const std::int64_t a_bytes = part.a_stride * std::int64_t{sizeof(Bf16)};
  constexpr std::int64_t kTileBytes = kColumns * std::int64_t{sizeof(float)};  // a row of b's tile
  const Bf16 *a_lower = a + kRows * part.a_stride, *b_right = b + part.panel_elements;
  for (const Bf16* const end = a + part.depths * kDepth; a != end;) {
    Tiles::template load<kLeft>(b, kTileBytes);
    Tiles::template load<kUpper>(a, a_bytes);
    Tiles::template multiply<kUpperLeft, kUpper, kLeft>();
    if constexpr (kHasRight) {
      Tiles::template load<kRight>(b_right, kTileBytes);
      Tiles::template multiply<kUpperRight, kUpper, kRight>();
    }
    if constexpr (kHasLower) {
      Tiles::template load<kLower>(a_lower, a_bytes);
      Tiles::template multiply<kLowerLeft, kLower, kLeft>();
    }
    if constexpr (kHasLower && kHasRight) Tiles::template multiply<kLowerRight, kLower, kRight>();
    a += kDepth;
    a_lower += kDepth;
    b += kElements;
    b_right += kElements;
  }
  Tiles::template store<kUpperLeft>(c, c_bytes);
  if constexpr (kHasRight) Tiles::template store<kUpperRight>(c + kColumns, c_bytes);
  if constexpr (kHasLower) Tiles::template store<kLowerLeft>(lower, c_bytes);
  if constexpr (kHasLower && kHasRight) {
    Tiles::template store<kLowerRight>(lower + kColumns, c_bytes);
  }
}

// Of columns that are done for one block of rows after the other: what is written of a row of c is
// 512 bytes side by side, which the caches' prefetchers need where rows are far apart, and the
// panels, 192 KB for the longest pass over K, stay in the second cache.
inline constexpr std::int64_t kGroup = 8 * kColumns;

template <class Tiles>
void multiply(const Part& part) {
  Used used{};
  const auto block = [&](std::int64_t m, std::int64_t n) {
    const auto size = [](std::int64_t left, std::int64_t most) {
      return static_cast<int>(std::clamp<std::int64_t>(left, 0, most));
    };
    const Used now = {.upper = size(part.rows - m, kRows),
                      .lower = size(part.rows - m - kRows, kRows),
                      .left = size(part.columns - n, kColumns),
                      .right = size(part.columns - n - kColumns, kColumns)};
    if (now != used) Tiles::configure(used = now);
    const Bf16* const a = part.a + m * part.a_stride;
    const Bf16* const b = part.b + n / kColumns * part.panel_elements;
    float* const c = part.c + m * part.c_stride + n;
    if (now.lower > 0 && now.right > 0) {
      multiply_block<Tiles, true, true>(part, a, b, c);
    } else if (now.lower > 0) {
      multiply_block<Tiles, true, false>(part, a, b, c);
    } else if (now.right > 0) {
      multiply_block<Tiles, false, true>(part, a, b, c);
    } else {
      multiply_block<Tiles, false, false>(part, a, b, c);
    }
  };
  for (std::int64_t first = 0; first < part.columns; first += kGroup) {
    const std::int64_t end = std::min(first + kGroup, part.columns);
    for (std::int64_t m = 0; m < part.rows; m += 2 * kRows) {
      for (std::int64_t n = first; n < end; n += 2 * kColumns) block(m, n);
    }
  }
  Tiles::release();
}

}  // namespace ptb::tiles
