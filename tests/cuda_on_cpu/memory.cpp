#include "cuda_on_cpu/memory.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "cuda_on_cpu/race.hpp"
#include "cuda_on_cpu/sanitizer.hpp"
#include "cuda_on_cpu/settings.hpp"

namespace ptb::cuda_on_cpu {
namespace {

constexpr std::size_t kSpan = std::size_t{1} << 32;  // of addresses; pages come when touched
constexpr std::size_t kPage = 4096;
constexpr std::size_t kGap = 512;
constexpr std::size_t kLarge = std::size_t{1} << 20;

struct Place {
  std::size_t offset, reserved, bytes;
};

struct Arena {
  unsigned char* begin = nullptr;
  std::size_t top = 0;                               // addresses handed out so far
  std::size_t used = 0;                              // bytes allocated
  std::map<const void*, Place> allocations{};        // by address
  std::multimap<std::size_t, std::size_t> vacant{};  // reserved bytes -> offset, freed before
  std::map<const char*, std::size_t> pinned{};
  int open = 0;  // scopes
};

// A kernel that leaves its memory and a host that follows a device address end here.
void on_fault(int, siginfo_t* info, void*);

Arena& arena() {
  static Arena& instance = *[] {
    auto* made = new Arena;
    made->begin = static_cast<unsigned char*>(
        mmap(nullptr, kSpan, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, nullptr);
    return made;
  }();
  return instance;
}

void on_fault(int signal, siginfo_t* info, void*) {
  if (!is_device(info->si_addr)) {  // not ours to explain
    ::signal(signal, SIG_DFL);
    raise(signal);
    return;
  }
  fail(arena().open > 0 ? "a kernel touches device memory that is not allocated"
                        : "the host touches device memory");
}

// Closing costs time with every page in use, so it is done where the device runs seldom: when it
// serves its streams only while the host waits. A host that follows a device address does so in
// every schedule.
bool is_closed_to_host() { return service() == Service::starving; }

void protect(const void* begin, std::size_t bytes, int protection) {
  if (bytes > 0) mprotect(const_cast<void*>(begin), bytes, protection);
}

// The allocation that was asked about last: the next access is in it, in all likelihood.
struct Range {
  const char *begin = nullptr, *end = nullptr;
};
Range latest;

// kLarge bytes of NaN.
int nan_file() {
  static const int file = [] {
    const std::vector<unsigned char> nans(kLarge, 0xff);
    const int made = memfd_create("nan", MFD_CLOEXEC);
    if (write(made, nans.data(), kLarge) != static_cast<ssize_t>(kLarge)) fail("no file of NaN");
    return made;
  }();
  return file;
}

// Of one allocation, whose pages are its own. A large one is mapped to that file, so that it has
// pages of its own where it is written to: of cuBLAS' workspaces, most of a backend's memory,
// nothing is, and to fill, to open and to close all their pages was half the time of a test.
void fill_with_nan(void* address, std::size_t reserved) {
  allow_access(address, reserved);
  const bool closes = is_closed_to_host() && arena().open == 0;
  if (reserved < kLarge) {
    protect(address, reserved, PROT_READ | PROT_WRITE);
    std::memset(address, 0xff, reserved);
    if (closes) protect(address, reserved, PROT_NONE);
    return;
  }
  for (std::size_t done = 0; done < reserved; done += kLarge) {
    void* const part = static_cast<unsigned char*>(address) + done;
    if (mmap(part, std::min(kLarge, reserved - done), closes ? PROT_NONE : PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, nan_file(), 0) == MAP_FAILED) {
      fail("no mapping of NaN");
    }
  }
}

std::size_t rounded(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

}  // namespace

void* allocate_device_memory(std::size_t bytes) {
  Arena& a = arena();
  if (bytes > free_bytes()) return nullptr;
  // An overrun of less than kGap must not hit a neighbour.
  const std::size_t reserved = rounded(bytes + kGap, kPage);
  std::size_t offset = a.top;
  if (const auto found = a.vacant.find(reserved); found != a.vacant.end()) {
    offset = found->second;
    a.vacant.erase(found);
  } else {
    if (a.top + reserved > kSpan) fail("the emulation is out of addresses");
    a.top += reserved;
  }
  unsigned char* const address = a.begin + offset;
  fill_with_nan(address, reserved);
  forbid_access(address + bytes, reserved - bytes);
  a.allocations[address] = {offset, reserved, bytes};
  a.used += bytes;
  forget_accesses(address, reserved);
  return address;
}

bool free_device_memory(void* address) {
  Arena& a = arena();
  const auto found = a.allocations.find(address);
  if (found == a.allocations.end()) return false;
  fill_with_nan(address, found->second.reserved);
  forbid_access(address, found->second.reserved);
  a.used -= found->second.bytes;
  a.vacant.emplace(found->second.reserved, found->second.offset);
  a.allocations.erase(found);
  latest = {};
  return true;
}

std::size_t free_bytes() { return settings().memory - std::min(settings().memory, arena().used); }

void* allocate_pinned_memory(std::size_t bytes) {
  void* const memory = std::malloc(bytes);
  arena().pinned[static_cast<char*>(memory)] = bytes;
  return memory;
}

bool free_pinned_memory(void* address) {
  if (arena().pinned.erase(static_cast<char*>(address)) == 0) return false;
  std::free(address);
  return true;
}

bool is_device(const void* address) {
  const auto* p = static_cast<const unsigned char*>(address);
  return p >= arena().begin && p < arena().begin + kSpan;
}

bool is_pinned(const void* address, std::size_t bytes) {
  const auto* p = static_cast<const char*>(address);
  auto after = arena().pinned.upper_bound(p);
  if (after == arena().pinned.begin()) return false;
  --after;
  return p + bytes <= after->first + after->second;
}

bool is_allocated(const void* address, std::size_t bytes) {
  const auto* first = static_cast<const char*>(address);
  if (first < latest.begin || first >= latest.end) {
    auto after = arena().allocations.upper_bound(address);
    if (after == arena().allocations.begin()) return false;
    --after;
    const auto* begin = static_cast<const char*>(after->first);
    latest = {begin, begin + after->second.bytes};
  }
  return first >= latest.begin && first + bytes <= latest.end;
}

const unsigned char* device_begin() { return arena().begin; }
std::size_t device_span() { return kSpan; }

DeviceAccess::DeviceAccess() {
  Arena& a = arena();
  if (a.open++ == 0 && is_closed_to_host()) protect(a.begin, a.top, PROT_READ | PROT_WRITE);
}

DeviceAccess::~DeviceAccess() {
  Arena& a = arena();
  if (--a.open == 0 && is_closed_to_host()) protect(a.begin, a.top, PROT_NONE);
}

}  // namespace ptb::cuda_on_cpu
