#include "support/plain_tiles.hpp"

#include <array>
#include <cstring>

#include "ptb_dist/base/error.hpp"

namespace ptb::test {
namespace {

// A register of 16 rows of 64 bytes, of which a shape has some.
struct Tile {
  int rows = 0;
  std::size_t bytes = 0;  // of a row
  std::array<std::array<float, 16>, 16> f32{};
  std::array<std::array<Bf16, 32>, 16> bf16{};
};

struct Plain {
  static inline thread_local std::array<Tile, 8> all{};
  static Tile& tile(int name) { return all[static_cast<std::size_t>(name)]; }

  static void configure(const tiles::Used& used) {
    const auto set = [](int name, int rows, int columns, std::size_t size) {
      tile(name) = {.rows = rows, .bytes = static_cast<std::size_t>(columns) * size};
    };
    constexpr int kPairs = 2;
    set(tiles::kUpperLeft, used.upper, used.left, sizeof(float));
    set(tiles::kUpperRight, used.upper, used.right, sizeof(float));
    set(tiles::kLowerLeft, used.lower, used.left, sizeof(float));
    set(tiles::kLowerRight, used.lower, used.right, sizeof(float));
    set(tiles::kUpper, used.upper, 16 * kPairs, sizeof(Bf16));
    set(tiles::kLower, used.lower, 16 * kPairs, sizeof(Bf16));
    set(tiles::kLeft, 16, used.left * kPairs, sizeof(Bf16));
    set(tiles::kRight, 16, used.right * kPairs, sizeof(Bf16));
  }
  static void release() { all = {}; }

  static Tile& shaped(int name) {
    Tile& result = tile(name);
    require(result.rows > 0 && result.bytes > 0, "a tile that is used has a shape");
    return result;
  }
  static char* row(Tile& of, int name, int r) {
    const auto at = static_cast<std::size_t>(r);
    return name < tiles::kUpper ? reinterpret_cast<char*>(of.f32[at].data())
                                : reinterpret_cast<char*>(of.bf16[at].data());
  }

  template <int kTile>
  static void zero() {
    shaped(kTile).f32 = {};
  }
  template <int kTile>
  static void load(const void* from, std::int64_t stride) {
    Tile& to = shaped(kTile);
    to.f32 = {};
    to.bf16 = {};
    for (int r = 0; r < to.rows; ++r) {
      std::memcpy(row(to, kTile, r), static_cast<const char*>(from) + r * stride, to.bytes);
    }
  }
  template <int kTile>
  static void store(void* to, std::int64_t stride) {
    Tile& from = shaped(kTile);
    for (int r = 0; r < from.rows; ++r) {
      std::memcpy(static_cast<char*>(to) + r * stride, row(from, kTile, r), from.bytes);
    }
  }
  // Even and odd elements of K have sums of their own, which are added to c at the end.
  template <int kC, int kA, int kB>
  static void multiply() {
    Tile &c = shaped(kC), &a = shaped(kA), &b = shaped(kB);
    require(c.rows == a.rows && c.bytes == b.bytes && b.rows == 16, "shapes of tiles fit");
    for (std::size_t m = 0; m < static_cast<std::size_t>(c.rows); ++m) {
      std::array<float, 16> even{}, odd{};
      for (std::size_t k = 0; k < 16; ++k) {
        const float a_even = from_bf16(a.bf16[m][2 * k]), a_odd = from_bf16(a.bf16[m][2 * k + 1]);
        for (std::size_t n = 0; n < 16; ++n) {
          even[n] += a_even * from_bf16(b.bf16[k][2 * n]);
          odd[n] += a_odd * from_bf16(b.bf16[k][2 * n + 1]);
        }
      }
      for (std::size_t n = 0; n < 16; ++n) c.f32[m][n] += even[n] + odd[n];
    }
  }
};

}  // namespace

void multiply_in_plain_tiles(const tiles::Part& part) { tiles::multiply<Plain>(part); }

}  // namespace ptb::test
