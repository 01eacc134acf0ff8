#include "ptb_dist/base/openmp_environment.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>

namespace ptb {
namespace {

// A name with a suffix matches, too: OpenMP 5.1 has OMP_DYNAMIC_ALL, OMP_DYNAMIC_DEV_0.
constexpr std::array<std::string_view, 17> kHidden = {
    // fewer threads
    "OMP_THREAD_LIMIT", "OMP_DYNAMIC", "OMP_NESTED", "OMP_MAX_ACTIVE_LEVELS",
    // other cores: libgomp binds the first thread, too; a rank would then see only that one core
    "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY",
    // stacks that are too small for oneDNN, or too large to be allocated
    "OMP_STACKSIZE", "GOMP_STACKSIZE",
    // the same for LLVM's runtime, which some users preload
    "KMP_AFFINITY", "KMP_HW_SUBSET", "KMP_ALL_THREADS", "KMP_DEVICE_THREAD_LIMIT",
    "KMP_DYNAMIC_MODE", "KMP_LIBRARY", "KMP_MAX_THREADS", "KMP_STACKSIZE"};
// The user's own choice of how threads wait.
constexpr std::array<std::string_view, 2> kWaiting = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"};
// No library of the program reads these before main, and most environments have one.
constexpr std::array<std::string_view, 8> kLent = {
    "_=", "OLDPWD=", "PWD=", "SHLVL=", "HOME=", "PATH=", "USER=", "TERM="};

// How long a thread looks for its next work before it sleeps. libgomp's default of 300,000 rounds
// takes 8 ms on a recent Xeon: beside other programs, the waiting threads then take the time of the
// thread for which they wait. No rounds at all cost 10 to 25 % on an idle machine
// (tests/bench/RESULTS.md).
constexpr long kSpinNanoseconds = 20'000;

// All of this runs before any constructor, even the C library's: it allocates no memory and uses
// nothing that must be constructed.
constexpr std::size_t kMost = 32;
std::array<const char*, kMost> hidden;
std::size_t hidden_count = 0;
std::array<char, 48> spin_setting;
char* lent = nullptr;  // the entry that spin_setting replaces

template <std::size_t n>
bool starts_with_any(std::string_view text, const std::array<std::string_view, n>& starts) {
  return std::ranges::any_of(starts, [&](std::string_view s) { return text.starts_with(s); });
}

long now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1'000'000'000L + time.tv_nsec;
}

// Rounds of libgomp's waiting loop in kSpinNanoseconds. Its pause instruction takes 10 cycles on
// one processor and 140 on another. The shortest of a few measurements counts, because another
// process may have interrupted one.
long spin_count() {
  constexpr int kTurns = 100;
  long shortest = kSpinNanoseconds;
  for (int attempt = 0; attempt < 5; ++attempt) {
    int watched = 0;
    const long begin = now();
    for (int turn = 0; turn < kTurns; ++turn) {
      if (__atomic_load_n(&watched, __ATOMIC_RELAXED) != 0) break;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#else
      asm volatile("" ::: "memory");
#endif
    }
    shortest = std::min(shortest, now() - begin);
  }
  return kSpinNanoseconds * kTurns / std::max(shortest, 1L);
}

void write_spin_setting() {
  constexpr std::string_view kName = "GOMP_SPINCOUNT=";
  std::array<char, 20> digits{};
  std::size_t count = 0;
  for (long rest = spin_count(); rest > 0; rest /= 10) {
    digits[count++] = static_cast<char>('0' + rest % 10);
  }
  char* end = std::ranges::copy(kName, spin_setting.begin()).out;
  std::reverse_copy(digits.begin(), digits.begin() + count, end);
}

// The array ends with a null pointer and has no room after it. So a new entry takes the place of a
// hidden one, or of one that is put back after all constructors have run. If there is neither,
// threads wait as libgomp does by default.
void arrange_environment(int, char**, char** environment) {
  bool is_waiting_set = false;
  char** end = environment;
  char** lendable = nullptr;
  for (char** entry = environment; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (hidden_count < kMost && starts_with_any(text, kHidden)) {
      hidden[hidden_count++] = *entry;
      continue;
    }
    if (starts_with_any(text, kWaiting)) is_waiting_set = true;
    if (lendable == nullptr && starts_with_any(text, kLent)) lendable = end;
    *end++ = *entry;
  }
  if (!is_waiting_set && (hidden_count > 0 || lendable != nullptr)) {
    write_spin_setting();
    if (hidden_count > 0) {
      *end++ = spin_setting.data();
    } else {
      lent = *lendable;
      *lendable = spin_setting.data();
    }
  }
  if (hidden_count > 0) *end = nullptr;
}

[[gnu::section(".preinit_array"),
  gnu::used]] void (*const arrange_first)(int, char**, char**) = arrange_environment;

// Runs after the constructors of all libraries: the environment becomes the user's again. Hidden
// variables stay hidden, because a runtime may read them late.
[[gnu::constructor]] void return_what_was_lent() {
  if (environ == nullptr) return;  // a constructor cleared it
  char** end = environ;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (*entry != spin_setting.data()) {
      *end++ = *entry;
    } else if (lent != nullptr) {
      *end++ = lent;
    }
  }
  *end = nullptr;
}

}  // namespace

std::vector<std::string_view> hidden_openmp_settings() {
  return {hidden.begin(), hidden.begin() + hidden_count};
}

}  // namespace ptb
