#include "backend/cpu/amx.hpp"

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

namespace ptb::amx {
namespace {

// The instructions are written out: intrinsics would want the compiler to make all of this file for
// processors that have them. Their numbers of tiles are part of the instruction.
struct Amx {
  // Of each tile its rows and the bytes of a row.
  static void configure(const tiles::Used& used) {
    struct alignas(64) {
      std::uint8_t palette = 1, start_row = 0;
      std::array<std::uint8_t, 14> reserved{};
      std::array<std::uint16_t, 16> row_bytes{};
      std::array<std::uint8_t, 16> rows{};
    } config;
    const auto set = [&config](int tile, int rows, std::int64_t bytes) {
      config.rows[static_cast<std::size_t>(tile)] = static_cast<std::uint8_t>(rows);
      config.row_bytes[static_cast<std::size_t>(tile)] =
          static_cast<std::uint16_t>(rows == 0 ? 0 : bytes);
    };
    constexpr int kWhole = static_cast<int>(tiles::kRows);
    const std::int64_t left = used.left * std::int64_t{sizeof(float)};
    const std::int64_t right = used.right * std::int64_t{sizeof(float)};
    const bool has_right = used.right > 0;
    set(tiles::kUpperLeft, used.upper, left);
    set(tiles::kUpperRight, has_right ? used.upper : 0, right);
    set(tiles::kLowerLeft, used.lower, left);
    set(tiles::kLowerRight, has_right ? used.lower : 0, right);
    set(tiles::kUpper, used.upper, tiles::kDepth * std::int64_t{sizeof(Bf16)});
    set(tiles::kLower, used.lower, tiles::kDepth * std::int64_t{sizeof(Bf16)});
    set(tiles::kLeft, kWhole, left);
    set(tiles::kRight, has_right ? kWhole : 0, right);
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  static void release() { asm volatile("tilerelease"); }

  template <int kTile>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }
  template <int kTile>
  static void load(const void* from, std::int64_t bytes) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(bytes), "i"(kTile) : "memory");
  }
  template <int kTile>
  static void store(void* to, std::int64_t bytes) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(bytes), "i"(kTile) : "memory");
  }
  template <int kC, int kA, int kB>
  static void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
  }
};

bool has_instructions() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  return (d & kBf16) != 0 && (d & kTile) != 0;
}

// Linux gives a process the 8 KB of tiles on request.
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // asm/prctl.h since Linux 5.16
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool is_there() {
  static const bool is_there = has_instructions() && may_use_tiles();
  return is_there;
}

void multiply(const tiles::Part& part) { tiles::multiply<Amx>(part); }

}  // namespace ptb::amx

#else

namespace ptb::amx {

bool is_there() { return false; }
void multiply(const tiles::Part&) {}

}  // namespace ptb::amx

#endif
